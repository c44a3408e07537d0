#!/bin/sh
# fuzz.sh SECONDS: runs each fuzz target of the module, those that face a host or a network for so long and the
# others for a quarter of it, as many at a time as there are processors. Shrinking a find ends after a second, as it
# would else take the whole time. What a target finds is left in its testdata/fuzz, where it becomes a test. GO names
# the Go command.
set -eu
seconds=$1
if [ $# -eq 1 ]; then
    grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sort | sed 's/:func / /' |
        xargs -L 1 -P "$(nproc)" "$0" "$seconds"
    exit
fi

file=$2 target=$3
case $target in
FuzzServer | FuzzParse | FuzzRead) time=$seconds ;;
*) time=$((seconds / 4 + 1)) ;;
esac
status=0
began=$(date +%H:%M:%S)
said=$("${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "${time}s" -fuzzminimizetime 1s -parallel 1 \
    "${file%/*}" </dev/null 2>&1) || status=1
printf '== %s to %s  %s %s\n%s\n' "$began" "$(date +%H:%M:%S)" "$target" "${file%/*}" "$said"
exit "$status"
