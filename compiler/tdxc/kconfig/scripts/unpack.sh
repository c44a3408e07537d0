# --- the sources: of the package or tarball, checked to be the version that was asked for, with the patches over them
mkdir linux
tar --extract --file="$sources" --directory=linux --strip-components=1
cd linux || exit 1
found=$(make --silent kernelversion)
if [[ $found != "$version" && $found != "$version".* ]]; then
    echo "kernel: version $version was asked for, but ${sources##*/} holds $found" >&2
    exit 1
fi
for patch in "$inputs"/patches/*; do
    echo "kernel: apply ${patch##*/}"
    patch --strip=1 --fuzz=0 --forward --no-backup-if-mismatch --input="$patch"
done
