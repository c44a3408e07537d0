# Check out $2 (a commit, or a name that can change) of the git repository $1 as the folder $3.
fetch_git() {
    local commit='' found
    if [[ $2 =~ ^[0-9a-f]{40}([0-9a-f]{24})?$ ]]; then
        commit=$2
    fi
    if [[ -n $commit && -f $downloads/git-$commit ]] && unpack_commit "$1" "$commit" "$3"; then
        echo "$1 was downloaded earlier."
        note_used "git-$commit"
    else
        rm -rf "$3"
        need_network "$1"
        start_git "$1" "$3" "$commit"
        if git -C "$3" fetch --quiet --depth=1 origin "$2"; then
            found=FETCH_HEAD
        else
            # Not every server hands out single commits, and none knows the beginning of one.
            git -C "$3" fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'
            found=$(git -C "$3" rev-parse --verify "$2^{commit}")
        fi
        git -C "$3" checkout --quiet --detach "$found"
        found=$(git -C "$3" rev-parse HEAD)
        if [[ -n $commit && $found != "$commit" ]]; then
            echo "$1 gave the commit $found instead of $commit" >&2
            exit 1
        fi
        if [[ -n $commit ]]; then
            keep_commit "$commit" "$3"
        fi
    fi
    echo "$1 is at the commit $(git -C "$3" rev-parse HEAD)."
    if [[ -e $3/.gitmodules ]]; then
        need_network "the submodules of $1"
        git -C "$3" submodule --quiet update --init --recursive --depth=1
    fi
    need_large_files "$1" "$3"
    find "$3" -name .git -prune -exec rm -rf {} +
}

# Stop where git has put pointers in the place of large files: it does so when the program that gets them is not there.
need_large_files() {
    local large
    large=$(git -C "$2" ls-files ':(attr:filter=lfs)')
    if [[ -n $large ]] && ! git config filter.lfs.smudge > /dev/null; then
        echo "$1 has files in Git LFS, which this environment cannot get: add 'git-lfs' to build_deps" >&2
        echo "${large%%$'\n'*} is one of them" >&2
        exit 1
    fi
}

# Make the folder $2 an empty repository, with $1 as where it comes from; the commit $3, if any, tells how it hashes.
start_git() {
    local format=sha1
    if ((${#3} == 64)); then
        format=sha256
    fi
    git init --quiet --initial-branch=build --object-format="$format" "$2"
    git -C "$2" remote add origin "$1"
}

# Check out the commit $2 of $1 as the folder $3 from what an earlier build downloaded. git finds objects by the hash of
# their content, so that nothing else than this commit can come of it.
unpack_commit() {
    start_git "$1" "$3" "$2" &&
        git -C "$3" index-pack --stdin < "$downloads/git-$2" > /dev/null 2>&1 &&
        echo "$2" > "$3/.git/shallow" &&
        git -C "$3" checkout --quiet --detach "$2" 2> /dev/null
}

# Keep all files of the commit $1 in the repository $2 for later builds.
keep_commit() {
    if [[ -d $work/fetched ]]; then
        git -C "$2" rev-list --objects --no-walk "$1" |
            git -C "$2" pack-objects --quiet --stdout --threads=1 > "$work/commit.pack"
        keep "git-$1" "$work/commit.pack"
        rm "$work/commit.pack"
    fi
}
