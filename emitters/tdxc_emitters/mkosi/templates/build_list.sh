# Name in the list $3 all that the artifact $1 puts at the path $2: in the image, this and nothing else gets its owner.
list_artifact() {
    local list=$DESTDIR/tdxc-artifacts/.tdxc-artifacts/$3 path
    mkdir -p "${list%/*}"
    find -H "$1" -printf '%P\0' | LC_ALL=C sort --zero-terminated | while IFS= read -r -d '' path; do
        printf '%s\0' "$2${path:+/$path}"
    done >> "$list"
}
