layers=("$SRCDIR")
for profile in ${PROFILES-}; do
    layers+=("$SRCDIR/mkosi.profiles/$profile")
done

# The number of a user or group by the image's own files: $1 is the file, $2 the name.
number() {
    local found
    found=$(awk -F: -v name="$2" '$1 == name { print $3; exit }' "$BUILDROOT/etc/$1")
    if [[ -z $found ]]; then
        echo "the image has no entry '$2' in /etc/$1" >&2
        exit 1
    fi
    echo "$found"
}
