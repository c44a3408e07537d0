#!/usr/bin/env bash
# From a recipe to a booted image: compiles, bakes, measures and boots the basic example, and says what it does.
# demo.sh TDXC: the program to do it with. Artifacts stay in build/demo.
set -euo pipefail
tdxc=$1
recipe=examples/qemu_basic.py
out=build/demo
greeting='hello from a trust domain'

step() { # step WHAT COMMAND...: say it, run it, say how long it took; what it prints is also kept in $copy, if set
    local began=$SECONDS
    printf '\n== %s  %s\n' "$(date +%H:%M:%S)" "$1"
    shift
    printf '   $ %s\n' "$*"
    if [ -n "${copy:-}" ]; then "$@" | tee "$copy"; else "$@"; fi
    printf '   done in %d s\n' $((SECONDS - began))
}

mkdir -p "$out"
step "compile the recipe into a mkosi tree" "$tdxc" compile "$recipe" -o "$out/mkosi"
step "bake the image (the first time, make the tools root)" "$tdxc" build "$recipe" --tree "$out/mkosi" -o "$out/image"
step "predict its measurements, as far as they are known without the host's firmware" "$tdxc" measure "$out/image"
copy=$out/console.log
step "boot it in QEMU until the service greets" "$tdxc" run "$out/image" --until "$greeting"

printf '\n== %s  everything took %d s\n' "$(date +%H:%M:%S)" "$SECONDS"
printf '   the service said  %s\n' "$(grep -m 1 -o "greeter: $greeting.*" "$copy")"
printf '   recipe            %s\n' "$recipe"
printf '   mkosi tree        %s\n' "$out/mkosi"
printf '   artifacts         %s\n' "$out/image"
find "$out/image" -maxdepth 1 -type f -printf "                     %f  %s bytes\n" | sort
