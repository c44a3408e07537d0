#!/bin/bash
# Stop unless packages come from the snapshot and the suites that the recipe names.
set -euo pipefail
layer=$SRCDIR

layers=("$SRCDIR")
for profile in ${PROFILES-}; do
    layers+=("$SRCDIR/mkosi.profiles/$profile")
done
shopt -s nullglob
sources=(/etc/apt/sources.list.d/*.sources)

# Whether any line of the sources given to this build matches $1.
named() {
    [[ ${#sources[@]} -gt 0 ]] && grep -qE "$1" "${sources[@]}"
}

fail() {
    echo "$1" >&2
    echo "Name a mirror in the recipe (mirror=), or build with one: tdxc build --mirror ADDRESS" >&2
    exit 1
}

if [[ -f $SRCDIR/mkosi.snapshot ]]; then
    snapshot=$(< "$SRCDIR/mkosi.snapshot")
    if ! grep -qF "\"Snapshot\": \"$snapshot\"" "$MKOSI_CONFIG" && ! named "^URIs:.*$snapshot"; then
        fail "The image is pinned to snapshot $snapshot, which mkosi before version 26 cannot choose by itself."
    fi
fi
for layer in "${layers[@]}"; do
    [[ -f $layer/rules/suites ]] || continue
    while read -r suite; do
        [[ $suite == '#'* ]] && continue
        named "^Suites:(.* )?${suite//./\\.}( |$)" || fail "No package source of this build has the suite $suite."
    done < "$layer/rules/suites"
done
