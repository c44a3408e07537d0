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

# Give the path $1 to the user and group with the numbers $2 and $3.
give() {
    local mode
    mode=$(stat --format=%a "$1")
    chown --no-dereference "$2:$3" "$1"
    # Changing the owner clears the set-user-ID and set-group-ID bits.
    [[ -L $1 ]] || chmod "$mode" "$1"
}

# Apply the list $1 of all layers; with $2, to everything below the paths as well.
apply() {
    local layer line user group path uid gid
    for layer in "${layers[@]}"; do
        [[ -f $layer/rules/$1 ]] || continue
        while IFS= read -r line; do
            [[ $line == '#'* ]] && continue
            read -r user group _ <<< "$line"
            path=${line#* }
            path=$BUILDROOT${path#* }
            stat --format='' "$path"
            uid=$(number passwd "$user")
            gid=$(number group "$group")
            while IFS= read -r -d '' found; do
                give "$found" "$uid" "$gid"
            done < <(find "$path" ${2:+-maxdepth "$2"} -print0)
        done < "$layer/rules/$1"
    done
}

apply owners-below
apply owners 0
