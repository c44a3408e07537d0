# Get the crates of Cargo.lock: what earlier builds downloaded, or the network. Either way crates of crates.io are unpacked
# as vendor/ from archives with the checksums of Cargo.lock, so that the compiler sees the same paths. Where a source has
# others (of git, of other registries), or replaces sources itself, they stay where Cargo puts them.
fetch_crates() {
    local crate found
    if [[ -d $downloads ]] && lay_out_crates "$downloads" && have_crates; then
        echo 'All crates were downloaded earlier.'
        return
    fi
    rm -rf "$CARGO_HOME/vendor" "$CARGO_HOME/config.toml"
    need_network 'the crates of Cargo.lock'
    cargo fetch --locked
    mkdir "$work/crates"
    for crate in "$CARGO_HOME"/registry/cache/*/*.crate; do
        if [[ -f $crate ]]; then
            found=$(sha256sum "$crate")
            ln -f "$crate" "$work/crates/sha256-${found%% *}"
        fi
    done
    if lay_out_crates "$work/crates"; then
        if [[ -d $CARGO_HOME/registry ]]; then
            mv "$CARGO_HOME/registry" "$work/registry"
        fi
        if have_crates; then
            for crate in "$work/crates"/*; do
                if [[ -f $crate ]]; then
                    keep "${crate##*/}" "$crate"
                fi
            done
            rm -rf "$work/crates" "$work/registry"
            return
        fi
        rm -rf "$CARGO_HOME/registry"
        mv "$work/registry" "$CARGO_HOME/registry"
    fi
    rm -rf "$work/crates" "$CARGO_HOME/vendor" "$CARGO_HOME/config.toml"
}

# Whether Cargo has all it needs without the network.
have_crates() {
    cargo fetch --locked --offline > /dev/null 2>&1
}

# Unpack all crates of Cargo.lock from the folder $1, where they are named by their SHA-256, and have Cargo take them.
lay_out_crates() {
    local vendor=$CARGO_HOME/vendor line key value name='' version=''
    mkdir -p "$vendor"
    while IFS= read -r line; do
        if [[ $line =~ ^(name|version|source|checksum)\ =\ \"([A-Za-z0-9_.:/?=#+-]+)\"$ ]]; then
            key=${BASH_REMATCH[1]}
            value=${BASH_REMATCH[2]}
            case $key in
                name) name=$value ;;
                version) version=$value ;;
                source) [[ $value == registry+https://github.com/rust-lang/crates.io-index ]] || return ;;
                checksum) unpack_crate "$1/sha256-$value" "$value" "$vendor" "$name-$version" || return ;;
            esac
        fi
    done < Cargo.lock
    {
        echo '[source.crates-io]'
        echo 'replace-with = "tdxc"'
        echo '[source.tdxc]'
        echo "directory = \"$vendor\""
    } > "$CARGO_HOME/config.toml"
}

# Unpack the crate $1, whose SHA-256 must be $2, as the folder $4 of the folder $3 (The Cargo Book, "Directory Sources").
unpack_crate() {
    [[ -f $1 ]] && cp "$1" "$work/crate" && has_sha256 "$work/crate" "$2" &&
        tar --extract --gzip --file "$work/crate" --directory "$3" --no-same-owner --no-same-permissions "$4" &&
        printf '{"files":{},"package":"%s"}' "$2" > "$3/$4/.cargo-checksum.json" &&
        rm "$work/crate" && note_used "sha256-$2"
}
