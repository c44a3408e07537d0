umask 022
if [[ ${1-} == build ]]; then
    if [[ ${#build_packages[@]} -gt 0 ]]; then
        mkosi-chroot apk add --no-cache --no-progress "${build_packages[@]}"
    fi
    exit 0
fi

if [[ ! -e $BUILDROOT/sbin/apk ]]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], sys.argv[2])' \
        "$mirror/$release/releases/x86_64/$archive" "$folder/$archive"
    echo "$sha256  $folder/$archive" | sha256sum --check --strict
    tar --extract --gzip --numeric-owner --file "$folder/$archive" --directory "$BUILDROOT"
    printf '%s\n' "$mirror/$release/main" "$mirror/$release/community" > "$BUILDROOT/etc/apk/repositories"
fi
mkosi-chroot apk add --no-cache --no-progress "${packages[@]}"

# mkosi looks for kernels and their modules below /usr/lib/modules alone.
cd "$BUILDROOT"
mkdir -p usr/lib/modules
if [[ -d lib/modules && ! -L lib/modules ]]; then
    cp -a lib/modules/. usr/lib/modules/
    rm -rf lib/modules
    ln -s ../usr/lib/modules lib/modules
fi
for kernel in boot/vmlinuz-*; do
    flavour=${kernel##*-}
    for modules in usr/lib/modules/*-"$flavour"; do
        install -m 0644 "$kernel" "$modules/vmlinuz"
    done
done
