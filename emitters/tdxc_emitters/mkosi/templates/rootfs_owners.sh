# Give the path $1 to the user and group with the numbers $2 and $3.
give() {
    local mode
    mode=$(stat --format=%a "$1")
    chown --no-dereference "$2:$3" "$1"
    # Changing the owner clears the set-user-ID and set-group-ID bits.
    [[ -L $1 ]] || chmod "$mode" "$1"
}

for layer in "${layers[@]}"; do
    [[ -f $layer/rules/owners ]] || continue
    while IFS= read -r line; do
        [[ $line == '#'* ]] && continue
        read -r user group _ <<< "$line"
        path=${line#* }
        path=$BUILDROOT${path#* }
        uid=$(number passwd "$user")
        gid=$(number group "$group")
        give "$path" "$uid" "$gid"
    done < "$layer/rules/owners"
done
