#!/bin/bash
# Remove what differs between two builds of the same recipe.
set -euo pipefail

image_version=''
shopt -s nullglob globstar
cd "$BUILDROOT"

# Users and groups come in the order in which packages made them: sort by number, passwords like their users.
for file in passwd group; do
    if [[ -f etc/$file ]]; then
        LC_ALL=C sort -t: -k3,3n -k1,1 "etc/$file" > "etc/$file.sorted"
        cat "etc/$file.sorted" > "etc/$file"
        rm "etc/$file.sorted"
    fi
done
for pair in passwd:shadow group:gshadow; do
    names=etc/${pair%:*} secrets=etc/${pair#*:}
    if [[ -f $secrets && -f $names ]]; then
        awk -F: 'NR == FNR { line[$1] = $0; next } $1 in line { print line[$1] }' "$secrets" "$names" > "$secrets.sorted"
        cat "$secrets.sorted" > "$secrets"
        rm "$secrets.sorted"
    fi
done
# systemd-sysusers notes the day on which it made a user; without it, ageing of passwords is off.
if [[ -f etc/shadow ]]; then
    awk 'BEGIN { FS = OFS = ":" } { $3 = ""; print }' etc/shadow > etc/shadow.sorted
    cat etc/shadow.sorted > etc/shadow
    rm etc/shadow.sorted
fi
rm -f etc/{passwd,group,shadow,gshadow,subuid,subgid}- etc/.pwd.lock

# A version that comes from a work tree would change the measurement of an unchanged image; the recipe's own stays.
if [[ -z $image_version ]]; then
    for file in etc/os-release usr/lib/os-release usr/lib/initrd-release; do
        if [[ -f $file && ! -L $file ]]; then
            sed -i '/^IMAGE_VERSION=/d' "$file"
        fi
    done
fi

# An empty machine-id is filled at each boot without the questions of a first boot.
: > etc/machine-id
chmod 0644 etc/machine-id
rm -f var/lib/dbus/machine-id var/lib/systemd/random-seed var/lib/systemd/credential.secret etc/ssh/ssh_host_*_key*

# Logs, and caches that carry times or the order of what was installed.
find var/log -mindepth 1 ! -type d -delete 2>/dev/null || true
rm -rf var/cache/ldconfig/aux-cache var/cache/apt/* var/cache/debconf/* var/lib/apt/lists/* var/cache/man/*
rm -f var/lib/dpkg/*-old var/cache/fontconfig/* etc/ld.so.cache~
find usr -type d -name __pycache__ -prune -exec rm -rf {} +
