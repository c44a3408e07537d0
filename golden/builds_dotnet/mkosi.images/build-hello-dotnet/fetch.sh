#!/bin/bash
# Get what build 'hello-dotnet' is made of, and verify it. mkosi leaves the network on here.
set -euo pipefail
# mkosi prepares the image first and then the build environment, which alone is meant.
[[ ${1-} == build ]] || exit 0
work=/var/lib/tdxc-build/hello-dotnet
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
    exec mkosi-chroot env -i container=mkosi SRCDIR="$SRCDIR" "$CHROOT_SCRIPT" "$@"
fi
umask 022

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

export DOTNET_CLI_HOME=/var/lib/tdxc-build/hello-dotnet/home
export DOTNET_CLI_TELEMETRY_OPTOUT=1
export DOTNET_GENERATE_ASPNET_CERTIFICATE=false
export DOTNET_NOLOGO=1
export HOME=/var/lib/tdxc-build/hello-dotnet/home
export LC_ALL=C.UTF-8
export NUGET_PACKAGES=/var/lib/tdxc-build/hello-dotnet/cache/nuget
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export SOURCE_DATE_EPOCH=0
export TMPDIR=/var/tmp
export TZ=UTC

mkdir -p "$HOME" "$work/cache" "$work/out"
echo '‣ build hello-dotnet: checking the version of its toolchain'
toolchain_version=$(dotnet --version)
check_version '.NET SDK' 8.0 "$toolchain_version"

echo '‣ build hello-dotnet: laying out its source'
mkdir /var/lib/tdxc-build/hello-dotnet/source
cp -R "$SRCDIR"/mkosi.images/build-hello-dotnet/src/. /var/lib/tdxc-build/hello-dotnet/source
find /var/lib/tdxc-build/hello-dotnet/source -type f ! -perm -u+x -exec chmod 0644 {} +
find /var/lib/tdxc-build/hello-dotnet/source \( -type d -o -perm -u+x \) -exec chmod 0755 {} +
find /var/lib/tdxc-build/hello-dotnet/source -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
cd /var/lib/tdxc-build/hello-dotnet/source

echo '‣ build hello-dotnet: fetching its dependencies'
(
need_lock packages.lock.json 'dotnet restore hello-dotnet.csproj -p:RuntimeIdentifier=linux-x64 --use-lock-file'
dotnet restore hello-dotnet.csproj --locked-mode --use-lock-file \
    -p:RuntimeIdentifier=linux-x64 -p:SelfContained=false \
    ${tdxc_offline:+--source "$HOME"}
missing=$(find /var/lib/tdxc-build/hello-dotnet/source -name packages.lock.json -newermt "@$SOURCE_DATE_EPOCH" -printf '%P ')
if [[ -n $missing ]]; then
    echo "a project that this one refers to has no lock file, so nothing pins its dependencies: $missing" >&2
    echo "make it with:" 'dotnet restore hello-dotnet.csproj -p:RuntimeIdentifier=linux-x64 --use-lock-file' >&2
    exit 1
fi
)

rm -f "$work/network" "$work/ca-certificates.crt"
