#!/bin/bash
# Build 'report' from src/report and install what it makes.
set -euo pipefail
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi
layer=$SRCDIR

export HOME=/var/tmp TZ=UTC LC_ALL=C.UTF-8
umask 022

# Copy the sources ($1) to the folder of the build ($2), with the one modification time that is the same everywhere.
prepare_source() {
    mkdir -p "$2"
    if [ -d "$1" ]; then
        cp -R "$1/." "$2"
        find "$2" -type f ! -perm -u+x -exec chmod 0644 {} +
        find "$2" \( -type d -o -perm -u+x \) -exec chmod 0755 {} +
        find "$2" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
    fi
}

# Install a file or the content of a folder ($1) at a path of the image ($2; a final slash keeps the file's name).
install_artifact() {
    case $2 in
        */) target=$DESTDIR$2${1##*/} ;;
        *) target=$DESTDIR$2 ;;
    esac
    if [ -d "$1" ]; then
        mkdir -p "$DESTDIR${2%/}"
        cp -R "$1/." "$DESTDIR${2%/}"
    elif [ -x "$1" ]; then
        install -D -m 0755 "$1" "$target"
    else
        install -D -m 0644 "$1" "$target"
    fi
}
prepare_source "$layer/src/report" /var/lib/tdxc-build/report
cd /var/lib/tdxc-build/report
export CFLAGS=-O2

(
make release
)

install_artifact /var/lib/tdxc-build/report/build/report /usr/local/bin/report
