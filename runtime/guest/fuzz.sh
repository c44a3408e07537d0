#!/bin/sh
# fuzz.sh SECONDS: runs each fuzz target of the module, those that face a host or a network for so long and the
# others for a quarter of it, as many at a time as there are processors. Shrinking a find ends after a second, as it
# would else take the whole time. What a target finds is left in its testdata/fuzz, where it becomes a test. GO names
# the Go command. In continuous integration (CI is set) the mutations begin with the same seed each time.
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
if [ -n "${CI:-}" ]; then export GODEBUG="fuzzseed=1${GODEBUG:+,$GODEBUG}"; fi
said=$("${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "${time}s" -fuzzminimizetime 1s -parallel 1 \
    "${file%/*}" </dev/null 2>&1) || status=1
# Go before 1.27 may take the end of the time itself for a failure (golang/go#75804): with these words alone,
# and without an input that fails.
words=$(printf '%s\n' "$said" | sed -n '/^--- FAIL/,/^FAIL/{/^--- FAIL/d;/^FAIL/d;s/^ *//;p;}')
case $said in *'Failing input written'*) words="a failing input" ;; esac
if [ "$status" -ne 0 ] && [ "$words" = "context deadline exceeded" ]; then
    status=0
    said="$said
the time was over; no input fails"
fi
printf '== %s to %s  %s %s\n%s\n' "$began" "$(date +%H:%M:%S)" "$target" "${file%/*}" "$said"
exit "$status"
