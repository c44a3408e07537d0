find "$BUILDROOT" -mindepth 1 -maxdepth 1 ! -name tdxc-artifacts -exec rm -rf {} +
find "$BUILDROOT/tdxc-artifacts" -mindepth 1 -maxdepth 1 -exec mv --target-directory="$BUILDROOT" {} +
rmdir "$BUILDROOT/tdxc-artifacts"
