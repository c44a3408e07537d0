# Get the modules of go.mod and verify them by go.sum: what earlier builds downloaded first, then the network.
fetch_modules() {
    local proxy=$work/proxy name file
    while read -r name file; do
        if [[ -f $downloads/$name ]]; then
            mkdir -p "$proxy/${file%/*}"
            ln -s "$downloads/$name" "$proxy/$file"
            file=${file%.*}
            printf '{"Version":"%s"}' "${file##*/}" > "$proxy/$file.info"
            note_used "$name"
        fi
    done < <(list_modules)
    if [[ -d $proxy ]] && GOPROXY=file://$proxy GONOPROXY=none GOSUMDB=off get_modules > "$work/modules.log" 2>&1; then
        echo 'All modules were downloaded earlier.'
    elif [[ -n ${tdxc_offline-} ]]; then
        GOPROXY=off get_modules || need_network 'the modules of go.sum'
    else
        # Cargo and curl try again by themselves, Go does not.
        get_modules || { sleep 5 && get_modules; }
        while read -r name file; do
            file=$GOMODCACHE/cache/download/$file
            if [[ -f $file ]] && ! cmp --quiet "$file" "$downloads/$name"; then
                keep "$name" "$file"
            fi
        done < <(list_modules)
    fi
    rm -rf "$proxy" "$work/modules.log"
}

# Download all modules, comparing them with go.sum, and check what has been unpacked of them.
get_modules() {
    go mod download && go mod verify
}

# The files that go.sum pins: the name that each is kept under, and its path at a module proxy, where capital letters
# are written as an exclamation mark and the small letter (go.dev/ref/mod, "Module proxy").
list_modules() {
    if [[ -f go.sum ]]; then
        awk '$3 ~ /^h1:/ && $1 !~ /\.\./ {
            path = $1 "/@v/" $2
            kind = sub(/\/go\.mod$/, "", path) ? ".mod" : ".zip"
            gsub(/[A-Z]/, "!&", path)
            name = substr($3, 4)
            gsub(/\//, "_", name)
            gsub(/\+/, "-", name)
            print "h1-" name, tolower(path) kind
        }' go.sum
    fi
}
