sorted=$(mktemp --directory)
tar --extract --same-permissions --file "$archive" --directory "$sorted"
tar --create --file "$archive" --directory "$sorted" --format=gnu --sort=name --numeric-owner --owner=0 --group=0 \
    --mtime="@$epoch" .
rm -rf "$sorted"
