#!/bin/bash
# Run 'no-multi-user' of the recipe inside the image.
set -euo pipefail
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi

rm -f /usr/lib/systemd/system/multi-user.target.wants/*
