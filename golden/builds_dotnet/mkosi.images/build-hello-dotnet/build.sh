#!/bin/bash
# Compile build 'hello-dotnet' and install it. This step has no network.
set -euo pipefail
work=/var/lib/tdxc-build/hello-dotnet
if [[ ${container:-} != mkosi ]]; then
    # The mark of `tdxc build --debug-shell`: a shell where it would compile, and nothing is kept of what it does.
    if [[ -e /etc/tdxc/debug-shell ]]; then
        mkosi-chroot env -i container=mkosi TERM="${TERM:-dumb}" debug_shell=yes DESTDIR="$DESTDIR" \
            "$CHROOT_SCRIPT" "$@" || true
        exit 77
    fi
    exec mkosi-chroot env -i container=mkosi DESTDIR="$DESTDIR" "$CHROOT_SCRIPT" "$@"
fi

umask 022

# Put the file or the content of the folder $1 at the path $2 of the image, files with the mode $3 if it is given.
# What an earlier artifact put into the same folder keeps its modes.
install_artifact() {
    local target=$DESTDIR/tdxc-artifacts$2 copy=$work/artifact into place
    into=${target%/*}
    if [[ -d $1 ]]; then
        into=$target
    fi
    place=$(realpath --canonicalize-missing "$into")
    if [[ $place/ != "$(realpath --canonicalize-missing "$DESTDIR")"/tdxc-artifacts/* ]]; then
        echo "$2 is behind a link of another artifact, which leads out of what this build makes" >&2
        exit 1
    fi
    mkdir -p "$into"
    if [[ -d $1 ]]; then
        rm -rf "$copy"
        cp -R "$1/." "$copy"
        find "$copy" -type d -exec chmod 0755 {} +
        find "$copy" -type f -perm /u+x -exec chmod "${3:-0755}" {} +
        find "$copy" -type f ! -perm /u+x -exec chmod "${3:-0644}" {} +
        cp -R --preserve=mode --remove-destination "$copy/." "$target"
        rm -rf "$copy"
    elif [[ -x $1 ]]; then
        install --no-target-directory -m "${3:-0755}" "$1" "$target"
    elif [[ -e $1 ]]; then
        install --no-target-directory -m "${3:-0644}" "$1" "$target"
    else
        echo "the build made no ${1#"$work/"}; its folder holds:" >&2
        find "${1%/*}" -maxdepth 1 >&2 || true
        exit 1
    fi
}
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

cd /var/lib/tdxc-build/hello-dotnet/source
[[ -z ${debug_shell-} ]] || exec bash -i

echo '‣ build hello-dotnet: compiling'
(
dotnet publish hello-dotnet.csproj --configuration Release --no-restore --runtime linux-x64 \
    --self-contained false \
    -p:Deterministic=true -p:ContinuousIntegrationBuild=true -p:EmbedUntrackedSources=false \
    -p:PathMap=/var/lib/tdxc-build/hello-dotnet/source=/usr/src/hello-dotnet%2C/var/lib/tdxc-build/hello-dotnet/cache/nuget=/usr/src/nuget \
    -p:DeterministicSourcePaths=false -p:EnableSourceControlManagerQueries=false -p:EnableSourceLink=false \
    -p:UseSharedCompilation=false -p:IncludeSourceRevisionInInformationalVersion=false -nodeReuse:false \
    --output /var/lib/tdxc-build/hello-dotnet/out/hello-dotnet
)

# Artifacts: where the build left them, and where they go in the image.
echo '‣ build hello-dotnet: installing its artifacts'
install_artifact /var/lib/tdxc-build/hello-dotnet/out/hello-dotnet /opt/hello-dotnet
