if [[ ${1-} != final ]]; then
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
if [[ -z $package ]]; then
    if ! apt-get download "systemd-boot-efi=$version"; then
        echo "no package source of this build has systemd-boot-efi $version: name a snapshot that has it," \
            "or give the file with src=" >&2
        exit 1
    fi
    packages=(./*.deb)
    package=${packages[0]}
fi

# Nothing of the package is used before it is known to be the one that is meant.
found=$(sha256sum < "$package")
found=${found%% *}
if [[ -n $sha256 && $found != "$sha256" ]]; then
    echo "systemd-boot-efi $version has SHA-256 $found, and the recipe pins $sha256" >&2
    exit 1
fi
name=$(dpkg-deb --field "$package" Package)
contained=$(dpkg-deb --field "$package" Version)
if [[ $name != systemd-boot-efi || $contained != "$version" ]]; then
    echo "the package is $name $contained, and the recipe pins systemd-boot-efi $version" >&2
    exit 1
fi
dpkg-deb --extract "$package" content
install -D -m 0644 content/usr/lib/systemd/boot/efi/linuxx64.efi.stub \
    "$BUILDROOT/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
echo "the EFI stub is that of systemd-boot-efi $version, SHA-256 $found"
