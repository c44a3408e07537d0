# Stop unless the version $3 of $1 is $2 or a refinement of it.
check_version() {
    case $3 in
        "$2" | "$2".* | "$2"-*) echo "The build uses $1 $3." ;;
        *)
            echo "the recipe asks for $1 $2, and this environment has $1 $3" >&2
            exit 1
            ;;
    esac
}
