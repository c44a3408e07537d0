#!/bin/bash
# Run 'harden' of the recipe inside the image.
set -euo pipefail
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi

# Nobody logs in: no console login, no account of package scripts with a shell.
set -eu
rm -f /usr/lib/systemd/system/getty.target.wants/*
