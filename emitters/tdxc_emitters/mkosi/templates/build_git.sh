# Check out $2 (a commit, or a name that can change) of the git repository $1 as the folder $3.
fetch_git() {
    git init --quiet --initial-branch=build "$3"
    git -C "$3" remote add origin "$1"
    if ! git -C "$3" fetch --quiet --depth=1 origin "$2"; then
        # Not every server hands out single commits.
        git -C "$3" fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'
        git -C "$3" update-ref FETCH_HEAD "$(git -C "$3" rev-parse --verify "$2^{commit}")"
    fi
    git -C "$3" checkout --quiet --detach FETCH_HEAD
    local found
    found=$(git -C "$3" rev-parse HEAD)
    if [[ $2 =~ ^[0-9a-f]{40}([0-9a-f]{24})?$ && $found != "$2" ]]; then
        echo "$1 gave the commit $found instead of $2" >&2
        exit 1
    fi
    echo "$1 is at the commit $found."
    git -C "$3" submodule --quiet update --init --recursive --depth=1
    find "$3" -name .git -prune -exec rm -rf {} +
}
