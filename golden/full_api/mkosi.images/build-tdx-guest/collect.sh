#!/bin/bash
# Keep what build 'tdx-guest' installed, and nothing of the environment it was built in.
set -euo pipefail
find "$BUILDROOT" -mindepth 1 -maxdepth 1 ! -name tdxc-artifacts -exec rm -rf {} +
find "$BUILDROOT/tdxc-artifacts" -mindepth 1 -maxdepth 1 -exec mv --target-directory="$BUILDROOT" {} +
rmdir "$BUILDROOT/tdxc-artifacts"
