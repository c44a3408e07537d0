#!/bin/sh
# fuzz.sh SECONDS: runs each fuzz target of the module, those that face a host or a network for so long and the
# others for a quarter of it. Shrinking a find ends after a second, as it would else take the whole time. What a
# target finds is left in its testdata/fuzz, where it becomes a test. GO names the Go command.
set -eu
seconds=$1
go=${GO:-go}
grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sort | while IFS=: read -r file found; do
    target=${found#func }
    case $target in
    FuzzServer | FuzzParse | FuzzRead) time=$seconds ;;
    *) time=$((seconds / 4 + 1)) ;;
    esac
    printf '== %s  %s %s\n' "$(date +%H:%M:%S)" "$target" "${file%/*}"
    "$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${time}s" -fuzzminimizetime 1s "${file%/*}" </dev/null
done
