#!/bin/bash
# Get what build 'hello-rust' is made of, and verify it. mkosi leaves the network on here.
set -euo pipefail
# mkosi prepares the image first and then the build environment, which alone is meant.
[[ ${1-} == build ]] || exit 0
work=/var/lib/tdxc-build/hello-rust
if [[ ${container:-} != mkosi ]]; then
    # Still outside of the environment: what the build host says of its network is handed to the programs that fetch,
    # in a file that goes when they are done. None of it is part of this tree or of what is built.
    network=$BUILDROOT$work/network
    mkdir -p "$BUILDROOT$work"
    (umask 077 && : > "$network")
    known='GOPROXY|GOSUMDB|GONOSUMDB|GOPRIVATE|GONOPROXY|GOINSECURE|GOVCS|GOAUTH|NUGET_[A-Za-z0-9_]+'
    known="$known|GIT_CONFIG_(COUNT|(KEY|VALUE)_[0-9]+)"
    known="$known|CARGO_(HTTP|NET|REGISTRY|REGISTRIES)_[A-Z0-9_]+"
    known="$known|HTTP_PROXY|HTTPS_PROXY|ALL_PROXY|NO_PROXY|http_proxy|https_proxy|all_proxy|no_proxy"
    {
        env
        cat /etc/tdxc/fetch.env 2> /dev/null || true
    } | while IFS= read -r line; do
        if [[ ${line%%=*} =~ ^($known)$ ]]; then
            printf 'export %s=%q\n' "${line%%=*}" "${line#*=}"
        fi
    done >> "$network"
    if [[ -f /etc/tdxc/ca-certificates.crt ]]; then
        install -m 0644 /etc/tdxc/ca-certificates.crt "$BUILDROOT$work/ca-certificates.crt"
        for name in SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO CARGO_HTTP_CAINFO; do
            echo "export $name=$work/ca-certificates.crt"
        done >> "$network"
    fi
    if [[ -e /etc/tdxc/offline ]]; then
        echo 'tdxc_offline=yes' >> "$network"
    fi
    # What earlier builds downloaded, to read, and a folder for what is new, where the bake has them beside its packages.
    offer=/var/cache/apt/archives/tdxc
    shown=()
    if [[ -d $offer/downloads ]]; then
        shown=(--ro-bind "$offer/downloads" "$work/downloads" --bind "$offer/fetched" "$work/fetched")
    fi
    exec mkosi-chroot "${shown[@]}" env -i container=mkosi SRCDIR="$SRCDIR" "$CHROOT_SCRIPT" "$@"
fi
umask 022

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

# Stop unless the source has the file $1, which the command $2 makes.
need_lock() {
    if [[ ! -f $1 ]]; then
        echo "the source has no $1, so nothing pins its dependencies; make it with: $2" >&2
        exit 1
    fi
}

# Stop unless the version $3 of $1 is $2 or a refinement of it.
check_version() {
    case $3 in
        "$2" | "$2".* | "$2"-*) echo "The build uses $1 $3." ;;
        *)
            echo "the recipe asks for $1 $2, and this environment has $1 $3" >&2
            exit 1
            ;;
    esac
}

# shellcheck source=/dev/null
. "$work/network"

export CARGO_HOME=/var/lib/tdxc-build/hello-rust/cache/cargo
export CARGO_INCREMENTAL=0
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
export CARGO_PROFILE_RELEASE_INCREMENTAL=false
export CARGO_TARGET_DIR=/var/lib/tdxc-build/hello-rust/cache/target
export CARGO_TERM_COLOR=never
export HOME=/var/lib/tdxc-build/hello-rust/home
export LC_ALL=C.UTF-8
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export RUSTFLAGS='--remap-path-prefix=/var/lib/tdxc-build/hello-rust/source=/usr/src/hello-rust --remap-path-prefix=/var/lib/tdxc-build/hello-rust/cache/cargo=/usr/src/cargo --remap-path-prefix=/var/lib/tdxc-build/hello-rust/cache/target=/usr/src/hello-rust/target'
export SOURCE_DATE_EPOCH=0
export TMPDIR=/var/tmp
export TZ=UTC

mkdir -p "$HOME" "$work/cache" "$work/out"
echo '‣ build hello-rust: checking the version of its toolchain'
toolchain_version=$(rustc --version | cut -d ' ' -f 2)
check_version Rust 1.85 "$toolchain_version"

echo '‣ build hello-rust: laying out its source'
mkdir /var/lib/tdxc-build/hello-rust/source
cp -R "$SRCDIR"/mkosi.images/build-hello-rust/src/. /var/lib/tdxc-build/hello-rust/source
find /var/lib/tdxc-build/hello-rust/source -type f ! -perm -u+x -exec chmod 0644 {} +
find /var/lib/tdxc-build/hello-rust/source \( -type d -o -perm -u+x \) -exec chmod 0755 {} +
find /var/lib/tdxc-build/hello-rust/source -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
cd /var/lib/tdxc-build/hello-rust/source

echo '‣ build hello-rust: fetching its dependencies'
(
# The workspace, which has the lock file, may begin above the folder that the build runs in.
project=$(cargo locate-project --workspace --message-format plain)
cd "${project%/*}"
need_lock Cargo.lock 'cargo generate-lockfile'
fetch_crates
)

rm -f "$work/network" "$work/ca-certificates.crt"
