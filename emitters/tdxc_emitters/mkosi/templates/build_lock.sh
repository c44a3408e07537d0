# Stop unless the source has the file $1, which the command $2 makes.
need_lock() {
    if [[ ! -f $1 ]]; then
        echo "the source has no $1, so nothing pins its dependencies; make it with: $2" >&2
        exit 1
    fi
}
