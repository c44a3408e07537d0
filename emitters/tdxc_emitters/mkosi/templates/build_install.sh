umask 022

# Put the file or the content of the folder $1 at the path $2 of the image, files with the mode $3 if it is given.
# What an earlier artifact put into the same folder keeps its modes.
install_artifact() {
    local target=$DESTDIR/tdxc-artifacts$2 copy=$work/artifact into place
    into=${target%/*}
    if [[ -d $1 ]]; then
        into=$target
    fi
    place=$(realpath --canonicalize-missing "$into")
    if [[ $place/ != "$(realpath --canonicalize-missing "$DESTDIR")"/tdxc-artifacts/* ]]; then
        echo "$2 is behind a link of another artifact, which leads out of what this build makes" >&2
        exit 1
    fi
    mkdir -p "$into"
    if [[ -d $1 ]]; then
        rm -rf "$copy"
        cp -R "$1/." "$copy"
        find "$copy" -type d -exec chmod 0755 {} +
        find "$copy" -type f -perm /u+x -exec chmod "${3:-0755}" {} +
        find "$copy" -type f ! -perm /u+x -exec chmod "${3:-0644}" {} +
        cp -R --preserve=mode --remove-destination "$copy/." "$target"
        rm -rf "$copy"
    elif [[ -x $1 ]]; then
        install --no-target-directory -m "${3:-0755}" "$1" "$target"
    elif [[ -e $1 ]]; then
        install --no-target-directory -m "${3:-0644}" "$1" "$target"
    else
        echo "the build made no ${1#"$work/"}; its folder holds:" >&2
        find "${1%/*}" -maxdepth 1 >&2 || true
        exit 1
    fi
}
