# --- the kernel: the same bytes wherever, whenever and with however many processors it is built
make --jobs="$(nproc)" bzImage
release=$(make --silent kernelrelease)
folder=$modules/$release
install -D --mode=0644 "$(make --silent image_name)" "$folder/vmlinuz"
install -D --mode=0644 .config "$folder/config"
if grep --quiet '^CONFIG_MODULES=y$' .config; then
    make --jobs="$(nproc)" modules
    make --silent INSTALL_MOD_STRIP=1 DEPMOD=true MODLIB="$folder" modules_install
    rm -f "$folder/build" "$folder/source"
else
    install --mode=0644 modules.builtin modules.builtin.modinfo "$folder"
fi
echo "kernel: built $release, $(stat --format=%s "$folder/vmlinuz") bytes"
