# Unpack the archive $1 as the folder $2; a folder that holds everything in the archive is left out.
unpack() {
    mkdir "$2.unpacked"
    tar --extract --file "$1" --directory "$2.unpacked" --no-same-owner
    rm "$1"
    local entries=()
    mapfile -d '' entries < <(find "$2.unpacked" -mindepth 1 -maxdepth 1 -print0)
    if [[ ${#entries[@]} -eq 1 && -d ${entries[0]} ]]; then
        mv "${entries[0]}" "$2"
        rmdir "$2.unpacked"
    else
        mv "$2.unpacked" "$2"
    fi
}
