#!/bin/bash
# Put systemd-stub of systemd-boot-efi 257.9-1~deb13u1 into the image.
set -euo pipefail

version='257.9-1~deb13u1'
sha256=
if [[ ${1-} != final ]]; then
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
if ! apt-get download "systemd-boot-efi=$version"; then
    echo "no package source of this build has systemd-boot-efi $version: name a snapshot that has it" >&2
    exit 1
fi
packages=(./*.deb)
if [[ -n $sha256 ]]; then
    echo "$sha256  ${packages[0]}" | sha256sum --check --strict
fi
dpkg-deb --extract "${packages[0]}" content
install -D -m 0644 content/usr/lib/systemd/boot/efi/linuxx64.efi.stub \
    "$BUILDROOT/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
