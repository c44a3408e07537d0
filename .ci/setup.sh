#!/bin/sh
# Sets up a bare Debian or Ubuntu machine: packages that are missing, a virtual environment, this project in it.
set -eu
venv=$1
python=$2

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$1"; }

missing=""
want() { # want PROBE PACKAGE: the probe says whether the package is needed
    if ! sh -c "$1" >/dev/null 2>&1; then missing="$missing $2"; fi
}
want 'command -v mmdebstrap' mmdebstrap
want 'command -v git' git
want "$python -c 'import ensurepip'" "$(basename "$python")-venv"
want 'test -e /usr/share/keyrings/debian-archive-keyring.gpg' debian-archive-keyring

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "these packages are missing:$missing (run: sudo apt-get install$missing)" >&2
        exit 3
    fi
    say "installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

if [ ! -x "$venv/bin/python" ]; then
    say "making the virtual environment $venv"
    "$python" -m venv "$venv"
fi
say "installing tdxvm into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable . --group dev
