#!/bin/bash
# Run 'root-password' of the recipe inside the image.
set -euo pipefail
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi

hash="${TDXVM_ROOT_PASSWORD_HASH:-}"
if [ -z "$hash" ]; then
    echo 'root has no password: tdxc build makes one, mkosi alone does not' >&2
    exit 0
fi
sed -i 's|^root:[^:]*:|root:x:|' /etc/passwd
if grep -q '^root:' /etc/shadow 2>/dev/null; then
    sed -i "s|^root:[^:]*:|root:$hash:|" /etc/shadow
else
    printf 'root:%s:1::::::\n' "$hash" >>/etc/shadow
    chown root:shadow /etc/shadow
    chmod 0640 /etc/shadow
fi
