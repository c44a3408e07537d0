#!/bin/bash
# Make the image's empty directories and give its files and directories their modes.
set -euo pipefail
layer=$SRCDIR

umask 022
layers=("$SRCDIR")
for profile in ${PROFILES-}; do
    layers+=("$SRCDIR/mkosi.profiles/$profile")
done

# Directories that the distribution gives another mode than 0755; copying an extra tree over them changes it.
declare -A special=(
    [root]=0700 [tmp]=1777 [var/tmp]=1777 [var/local]=2775 [var/mail]=2775
    [var/lib/private]=0700 [var/cache/private]=0700 [var/log/private]=0700 [etc/ssl/private]=0700
)

for layer in "${layers[@]}"; do
    [[ -d $layer/mkosi.extra ]] || continue
    while IFS= read -r -d '' path; do
        if [[ -d $layer/mkosi.extra/$path ]]; then
            chmod "${special[$path]-0755}" "$BUILDROOT/$path"
        elif [[ -x $layer/mkosi.extra/$path ]]; then
            chmod 0755 "$BUILDROOT/$path"
        else
            chmod 0644 "$BUILDROOT/$path"
        fi
    done < <(find "$layer/mkosi.extra" -mindepth 1 ! -type l -printf '%P\0')
done

for layer in "${layers[@]}"; do
    if [[ -f $layer/rules/directories ]]; then
        while IFS= read -r line; do
            [[ $line == '#'* ]] && continue
            path=$BUILDROOT${line#* }
            mkdir -p -- "$path"
            chmod "${line%% *}" "$path"
        done < "$layer/rules/directories"
    fi
    if [[ -f $layer/rules/modes ]]; then
        while IFS= read -r line; do
            [[ $line == '#'* ]] || chmod "${line%% *}" "$BUILDROOT${line#* }"
        done < "$layer/rules/modes"
    fi
done
