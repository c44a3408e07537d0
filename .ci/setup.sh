#!/bin/sh
# Sets up a bare Debian or Ubuntu machine: packages that are missing, a virtual environment, this project in it.
# setup.sh VENV PYTHON [GROUP]: GROUP is a dependency group of pyproject.toml, such as dev for the tests.
set -eu
venv=$1
python=$2
group=${3:-}
PATH=$PATH:/usr/sbin:/sbin

say() { printf '== %s  %s\n' "$(date +%H:%M:%S)" "$1"; }

again() { # again COMMAND...: what fetches over the network is tried four times
    for pause in 3 10 30; do
        if "$@"; then return; fi
        say "failed, once more in $pause s: $1"
        sleep "$pause"
    done
    "$@"
}

missing=""
want() { # want PROBE PACKAGE: the probe says whether the package is there
    if ! sh -c "$1" >/dev/null 2>&1; then missing="$missing $2"; fi
}
want 'command -v mmdebstrap' mmdebstrap
want 'test -e /usr/share/keyrings/debian-archive-keyring.gpg' debian-archive-keyring
want 'test -e /etc/ssl/certs/ca-certificates.crt' ca-certificates
want "'$python' -c 'import ensurepip'" "$(basename "$python")-venv"
if [ "$(id -u)" -ne 0 ] || [ -n "$group" ]; then # without root rights, a user namespace with a range of ids
    want 'command -v newuidmap' uidmap
fi
if [ -n "$group" ]; then # what the tests hold ours against
    want 'command -v shellcheck' shellcheck
    want 'command -v npm' npm # which has a .NET SDK
    want 'command -v nft' nftables
    want 'command -v ip' iproute2
    want 'command -v systemd-escape && command -v systemd-sysusers' systemd
    want 'command -v tpm2_eventlog' tpm2-tools
    want 'command -v swtpm' swtpm
    want 'command -v gcc && test -e /usr/include/stdio.h' 'gcc libc6-dev' # the race detector of Go
    want 'command -v cryptsetup' cryptsetup-bin
    want 'command -v mke2fs && command -v e2fsck' e2fsprogs
    want 'command -v patch' patch
    want 'command -v openssl' openssl
    want 'command -v ssh && command -v ssh-keygen' openssh-client
    want 'command -v curl' curl # what a build's scripts fetch with
    if [ -d ../shared/vectors ]; then want 'command -v go' golang-go; fi
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "these packages are missing:$missing (run: sudo apt-get install$missing)" >&2
        exit 3
    fi
    say "install$missing"
    export DEBIAN_FRONTEND=noninteractive
    install_missing() {
        # shellcheck disable=SC2086 # a list of package names
        apt-get update -qq && apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 $missing >/dev/null
    }
    again install_missing
fi

if [ ! -x "$venv/bin/python" ]; then
    say "make the virtual environment $venv"
    "$python" -m venv "$venv"
fi
say "install tdxvm into $venv${group:+ with what its $group group needs}"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
if [ -n "$group" ]; then
    again pip install --upgrade "pip>=25.1" # the first that knows groups
    again pip install --editable . --group "$group"
    go=$(cd "$venv/bin" && pwd)/go
    (cd runtime/guest && again "$go" mod download)
else
    again pip install --editable .
fi
