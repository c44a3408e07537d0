# shellcheck shell=sh disable=SC2154 # the sourcing script sets these
# Sourced by each service with: name type restart delay remain requires, and the functions prepare, start and finish.
state=/run/tdx/services

say() {
    echo "$name: $1"
}

for required in $requires; do
    if [ ! -e "$state/$required" ]; then
        say "not started: it requires $required, which is not up"
        exit 1
    fi
done

# The subshells end at the first command that fails, which a command behind || or if would not.
attempt() {
    set +e
    (
        set -e
        "$1"
    )
    status=$?
    set -e
}

attempt prepare
if [ "$status" -ne 0 ]; then
    say "FAILED to prepare with exit status $status"
    exit 1
fi

if [ "$type" = oneshot ]; then
    attempt start
    if [ "$status" -ne 0 ]; then
        say "FAILED with exit status $status"
        exit 1
    fi
    : >"$state/$name"
    attempt finish
    say "done"
    exit 0
fi

# Whether a service that ended with the exit status $1 is started again; above 128 a signal has ended it.
is_restarted() {
    case $restart in
        always) return 0 ;;
        on-success) [ "$1" -eq 0 ] ;;
        on-failure) [ "$1" -ne 0 ] ;;
        on-abnormal | on-abort) [ "$1" -gt 128 ] ;;
        *) return 1 ;;
    esac
}

supervise() {
    while :; do
        attempt start
        say "ended with exit status $status"
        is_restarted "$status" || break
        sleep "$delay"
        attempt prepare
    done
    rm -f "$state/$name"
}

: >"$state/$name"
say "started"
supervise &
attempt finish
