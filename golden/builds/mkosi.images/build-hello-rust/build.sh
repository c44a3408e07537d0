#!/bin/bash
# Compile build 'hello-rust' and install it. This step has no network.
set -euo pipefail
work=/var/lib/tdxc-build/hello-rust
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

cd /var/lib/tdxc-build/hello-rust/source
[[ -z ${debug_shell-} ]] || exec bash -i

echo '‣ build hello-rust: compiling'
(
cargo build --release --locked --offline \
    --bin hello-rust
# The source's own .cargo/config.toml may name a target, whose programs are in a folder of its name.
programs=("$CARGO_TARGET_DIR"/release/hello-rust)
if [[ ! -f ${programs[0]} ]]; then
    programs=("$CARGO_TARGET_DIR"/*/release/hello-rust)
fi
if [[ ${#programs[@]} != 1 || ! -f ${programs[0]} ]]; then
    echo "Cargo made no single program" hello-rust "but for several or other targets: ${programs[*]}" >&2
    echo "name one target of Linux, or none, in .cargo/config.toml of the source" >&2
    exit 1
fi
install -D "${programs[0]}" /var/lib/tdxc-build/hello-rust/out/hello-rust
)

# Artifacts: where the build left them, and where they go in the image.
echo '‣ build hello-rust: installing its artifacts'
install_artifact /var/lib/tdxc-build/hello-rust/out/hello-rust /usr/bin/hello-rust
