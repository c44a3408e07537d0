#!/bin/bash
# Write the archive of artifacts anew in the order of names: mkosi's is in the order of the disk.
set -euo pipefail
archive=$OUTPUTDIR/build-tdx-guest.tar
epoch=0
sorted=$(mktemp --directory)
tar --extract --same-permissions --file "$archive" --directory "$sorted"
tar --create --file "$archive" --directory "$sorted" --format=gnu --sort=name --numeric-owner --owner=0 --group=0 \
    --mtime="@$epoch" .
rm -rf "$sorted"
