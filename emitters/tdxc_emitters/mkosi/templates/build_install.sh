umask 022

# Put the file or the content of the folder $1 at the path $2 of the image, files with the mode $3 if it is given.
install_artifact() {
    local target=$DESTDIR/tdxc-artifacts$2
    if [[ -d $1 ]]; then
        mkdir -p "$target"
        cp -R "$1/." "$target"
        find "$target" -type d -exec chmod 0755 {} +
        find "$target" -type f -perm /u+x -exec chmod "${3:-0755}" {} +
        find "$target" -type f ! -perm /u+x -exec chmod "${3:-0644}" {} +
    elif [[ -x $1 ]]; then
        install -D -m "${3:-0755}" "$1" "$target"
    elif [[ -e $1 ]]; then
        install -D -m "${3:-0644}" "$1" "$target"
    else
        echo "the build made no ${1#"$work/"}; its folder holds:" >&2
        find "${1%/*}" -maxdepth 1 >&2 || true
        exit 1
    fi
}
