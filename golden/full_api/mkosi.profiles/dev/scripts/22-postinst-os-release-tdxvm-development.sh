#!/bin/bash
# Run 'os-release-tdxvm_development' of the recipe inside the image.
set -euo pipefail
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi

printf '%s\n' TDXVM_DEVELOPMENT=1 >>/usr/lib/os-release
