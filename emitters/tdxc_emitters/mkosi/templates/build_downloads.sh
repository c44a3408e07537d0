# What earlier builds downloaded lies in $downloads if the bake has it, and can only be read. Each file there is named by
# the hash that a lock file or the recipe pins it with, and counts for nothing unless its content fits.
downloads=$work/downloads

# Keep the file $2 for later builds, under the name $1.
keep() {
    if [[ -d $work/fetched ]]; then
        cp "$2" "$work/fetched/.new"
        mv "$work/fetched/.new" "$work/fetched/$1"
    fi
}

# Note that the file $1 of $downloads was of use.
note_used() {
    if [[ -d $work/fetched ]]; then
        echo "$1" >> "$work/fetched/used"
    fi
}

# Whether the file $1 has the SHA-256 $2.
has_sha256() {
    local found
    found=$(sha256sum "$1")
    [[ ${found%% *} == "$2" ]]
}

# Stop when the bake is to do without the network, as $1 was not downloaded by an earlier build.
need_network() {
    if [[ -n ${tdxc_offline-} ]]; then
        echo "$1: not in the cache of downloads, and this bake is offline" >&2
        exit 1
    fi
}
