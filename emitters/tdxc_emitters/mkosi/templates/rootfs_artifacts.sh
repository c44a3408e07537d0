shopt -s nullglob dotglob

declare -A owners=() listed=() own=() known=()

# Remember that the path $1 and the folders that it is in are the recipe's.
know() {
    local path=$1
    while [[ -n $path && -z ${known[$path]-} ]]; do
        known[$path]=yes
        path=${path%/*}
    done
}

for layer in "${layers[@]}"; do
    if [[ -f $layer/rules/artifacts ]]; then
        while IFS= read -r line; do
            if [[ $line != '#'* ]]; then
                path=${line#* * }
                owners[$path]=${line%" $path"}
                know "$path"
            fi
        done < "$layer/rules/artifacts"
    fi
    if [[ -f $layer/rules/directories ]]; then
        while IFS= read -r line; do
            if [[ $line != '#'* ]]; then
                own[${line#* }]=yes
                know "${line#* }"
            fi
        done < "$layer/rules/directories"
    fi
    if [[ -d $layer/mkosi.extra ]]; then
        while IFS= read -r -d '' path; do
            own[$path]=yes
            know "$path"
        done < <(find "$layer/mkosi.extra" ! -type d -printf '/%P\0')
    fi
done

for list in "$BUILDROOT"/.tdxc-artifacts/*; do
    while IFS= read -r -d '' path; do
        listed[$path]=yes
    done < "$list"
done
rm -rf "$BUILDROOT/.tdxc-artifacts"

# Whether the artifact at or closest above the path $1 belongs to $2, a user and a group.
belongs_to() {
    local path=$1
    while [[ -n $path && -z ${owners[$path]-} ]]; do
        path=${path%/*}
    done
    [[ -n $path && ${owners[$path]} == "$2" ]]
}

# Whether the path $1 leads through a link, and so to another place.
is_behind_link() {
    local path=${1%/*}
    while [[ -n $path && ! -L $BUILDROOT$path ]]; do
        path=${path%/*}
    done
    [[ -n $path ]]
}

# Whether $1 is a folder of others: one that also holds what neither an artifact nor the recipe has put there.
is_shared() {
    local entry
    if [[ -d $BUILDROOT$1 && ! -L $BUILDROOT$1 ]]; then
        for entry in "$BUILDROOT$1"/*; do
            entry=${entry#"$BUILDROOT"}
            if [[ -z ${listed[$entry]-}${known[$entry]-} ]]; then
                echo "$1 stays root's, as it also holds ${entry##*/}, which is not of an artifact"
                return
            fi
        done
    fi
    return 1
}

# Give to the user and group $1 what the lists name of their artifacts. What the recipe itself puts there is its own.
give_artifacts() {
    local path uid gid paths=() modes=()
    for path in "${!listed[@]}"; do
        if belongs_to "$path" "$1" && [[ -z ${own[$path]-} && (-e $BUILDROOT$path || -L $BUILDROOT$path) ]] &&
            ! is_behind_link "$path" && ! is_shared "$path"; then
            paths+=("$BUILDROOT$path")
        fi
    done
    if [[ ${#paths[@]} -eq 0 ]]; then
        return
    fi
    # Changing the owner clears the set-user-ID and set-group-ID bits.
    for path in "${paths[@]}"; do
        if [[ ! -L $path && (-u $path || -g $path) ]]; then
            modes+=("$(stat --format=%a "$path")" "$path")
        fi
    done
    uid=$(number passwd "${1% *}")
    gid=$(number group "${1#* }")
    printf '%s\0' "${paths[@]}" | xargs --null chown --no-dereference "$uid:$gid"
    if [[ ${#modes[@]} -gt 0 ]]; then
        printf '%s\0' "${modes[@]}" | xargs --null --max-args=2 chmod
    fi
}

printf '%s\n' "${owners[@]}" | sort --unique | while IFS= read -r owner; do
    if [[ $owner != 'root root' ]]; then
        give_artifacts "$owner"
    fi
done
