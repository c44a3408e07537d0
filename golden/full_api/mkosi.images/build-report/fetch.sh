#!/bin/bash
# Get what build 'report' is made of, and verify it. mkosi leaves the network on here.
set -euo pipefail
# mkosi prepares the image first and then the build environment, which alone is meant.
[[ ${1-} == build ]] || exit 0
work=/var/lib/tdxc-build/report
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot env -i container=mkosi SRCDIR="$SRCDIR" "$CHROOT_SCRIPT" "$@"
fi
umask 022

export CFLAGS=-O2
export HOME=/var/lib/tdxc-build/report/home
export LC_ALL=C.UTF-8
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export SOURCE_DATE_EPOCH=0
export TMPDIR=/var/tmp
export TZ=UTC

mkdir -p "$HOME" "$work/cache" "$work/out"

echo '‣ build report: laying out its source'
mkdir /var/lib/tdxc-build/report/source
cp -R "$SRCDIR"/mkosi.images/build-report/src/. /var/lib/tdxc-build/report/source
find /var/lib/tdxc-build/report/source -type f ! -perm -u+x -exec chmod 0644 {} +
find /var/lib/tdxc-build/report/source \( -type d -o -perm -u+x \) -exec chmod 0755 {} +
find /var/lib/tdxc-build/report/source -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
cd /var/lib/tdxc-build/report/source
