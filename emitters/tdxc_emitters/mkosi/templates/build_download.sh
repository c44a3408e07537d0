# Download $1 to the file $3 and compare its SHA-256 with $2.
download() {
    curl --fail --silent --show-error --location --retry 3 --output "$3" "$1"
    local found
    found=$(sha256sum "$3")
    if [[ ${found%% *} != "$2" ]]; then
        echo "$1 has the SHA-256 ${found%% *}, and the recipe says $2" >&2
        exit 1
    fi
}
