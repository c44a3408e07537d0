# Download $1 to the file $3 and compare its SHA-256 with $2.
download() {
    if [[ -f $downloads/sha256-$2 ]] && cp "$downloads/sha256-$2" "$3" && has_sha256 "$3" "$2"; then
        echo "$1 was downloaded earlier."
        note_used "sha256-$2"
        return
    fi
    need_network "$1"
    curl --globoff --fail --silent --show-error --location --retry 3 --output "$3" "$1"
    if ! has_sha256 "$3" "$2"; then
        local found
        found=$(sha256sum "$3")
        echo "$1 has the SHA-256 ${found%% *}, and the recipe says $2" >&2
        exit 1
    fi
    keep "sha256-$2" "$3"
}
