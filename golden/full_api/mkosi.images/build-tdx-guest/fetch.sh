#!/bin/bash
# Get what build 'tdx-guest' is made of, and verify it. mkosi leaves the network on here.
set -euo pipefail
# mkosi prepares the image first and then the build environment, which alone is meant.
[[ ${1-} == build ]] || exit 0
work=/var/lib/tdxc-build/tdx-guest
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

# Get the modules of go.mod and verify them by go.sum: what earlier builds downloaded first, then the network.
fetch_modules() {
    local proxy=$work/proxy name file
    while read -r name file; do
        if [[ -f $downloads/$name ]]; then
            mkdir -p "$proxy/${file%/*}"
            ln -s "$downloads/$name" "$proxy/$file"
            file=${file%.*}
            printf '{"Version":"%s"}' "${file##*/}" > "$proxy/$file.info"
            note_used "$name"
        fi
    done < <(list_modules)
    if [[ -d $proxy ]] && GOPROXY=file://$proxy GONOPROXY=none GOSUMDB=off get_modules > "$work/modules.log" 2>&1; then
        echo 'All modules were downloaded earlier.'
    elif [[ -n ${tdxc_offline-} ]]; then
        GOPROXY=off get_modules || need_network 'the modules of go.sum'
    else
        # Cargo and curl try again by themselves, Go does not.
        get_modules || { sleep 5 && get_modules; }
        while read -r name file; do
            file=$GOMODCACHE/cache/download/$file
            if [[ -f $file ]] && ! cmp --quiet "$file" "$downloads/$name"; then
                keep "$name" "$file"
            fi
        done < <(list_modules)
    fi
    rm -rf "$proxy" "$work/modules.log"
}

# Download all modules, comparing them with go.sum, and check what has been unpacked of them.
get_modules() {
    go mod download && go mod verify
}

# The files that go.sum pins: the name that each is kept under, and its path at a module proxy, where capital letters
# are written as an exclamation mark and the small letter (go.dev/ref/mod, "Module proxy").
list_modules() {
    if [[ -f go.sum ]]; then
        awk '$3 ~ /^h1:/ && $1 !~ /\.\./ {
            path = $1 "/@v/" $2
            kind = sub(/\/go\.mod$/, "", path) ? ".mod" : ".zip"
            gsub(/[A-Z]/, "!&", path)
            name = substr($3, 4)
            gsub(/\//, "_", name)
            gsub(/\+/, "-", name)
            print "h1-" name, tolower(path) kind
        }' go.sum
    fi
}

# Stop unless the source has the file $1, which the command $2 makes.
need_lock() {
    if [[ ! -f $1 ]]; then
        echo "the source has no $1, so nothing pins its dependencies; make it with: $2" >&2
        exit 1
    fi
}

# shellcheck source=/dev/null
. "$work/network"

export CGO_ENABLED=0
export GOCACHE=/var/lib/tdxc-build/tdx-guest/cache/go-build
export GOMODCACHE=/var/lib/tdxc-build/tdx-guest/cache/go-mod
export GOPATH=/var/lib/tdxc-build/tdx-guest/cache/go
export GOTELEMETRY=off
export GOTOOLCHAIN=local
export HOME=/var/lib/tdxc-build/tdx-guest/home
export LC_ALL=C.UTF-8
export PATH=/usr/lib/go-1.24/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export SOURCE_DATE_EPOCH=0
export TMPDIR=/var/tmp
export TZ=UTC

mkdir -p "$HOME" "$work/cache" "$work/out"

echo '‣ build tdx-guest: laying out its source'
mkdir /var/lib/tdxc-build/tdx-guest/source
cp -R "$SRCDIR"/mkosi.images/build-tdx-guest/src/. /var/lib/tdxc-build/tdx-guest/source
find /var/lib/tdxc-build/tdx-guest/source -type f ! -perm -u+x -exec chmod 0644 {} +
find /var/lib/tdxc-build/tdx-guest/source \( -type d -o -perm -u+x \) -exec chmod 0755 {} +
find /var/lib/tdxc-build/tdx-guest/source -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
cd /var/lib/tdxc-build/tdx-guest/source

echo '‣ build tdx-guest: fetching its dependencies'
(
# The module may begin above the folder that the build runs in.
module=$(go env GOMOD)
if [[ $module == */go.mod ]]; then
    cd "${module%/*}"
fi
if [[ -f vendor/modules.txt ]]; then
    echo 'The modules are in vendor/ of the source.'
else
    # Without go.sum, Go can tell its modules only where all of them are folders of the source.
    if [[ ! -f go.sum ]] && ! GOPROXY=off go list -m all > /dev/null; then
        need_lock go.sum 'go mod tidy'
    fi
    fetch_modules
fi
)

rm -f "$work/network" "$work/ca-certificates.crt"
