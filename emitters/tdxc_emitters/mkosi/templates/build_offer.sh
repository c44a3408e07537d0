    # What earlier builds downloaded, to read, and a folder for what is new, where the bake has them beside its packages.
    offer=/var/cache/apt/archives/tdxc
    shown=()
    if [[ -d $offer/downloads ]]; then
        shown=(--ro-bind "$offer/downloads" "$work/downloads" --bind "$offer/fetched" "$work/fetched")
    fi
