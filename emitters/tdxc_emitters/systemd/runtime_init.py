"""Boot steps as files: the runner ``/usr/bin/runtime-init`` and one executable drop-in for each step."""

from __future__ import annotations

from tdxc import quoting
from tdxc.ir import OrderedStep

RUNNER_PATH = "usr/bin/runtime-init"
STEPS_FOLDER = "usr/lib/runtime-init.d"

_RUNNER = """\
#!/bin/sh
# Runs the boot steps in /usr/lib/runtime-init.d in the order of their names. The first step that fails ends it.
set -eu
LC_ALL=C
export LC_ALL

# Centiseconds since boot. The leading 1 keeps a fraction such as 08 from being read as an octal number.
now() {
    read -r uptime _ </proc/uptime
    echo $((${uptime%.*} * 100 + 1${uptime#*.} - 100))
}

# Line for the console and the journal; $1 is its syslog level, which only the journal understands.
say() {
    if [ -n "${JOURNAL_STREAM:-}" ]; then
        echo "<$1>runtime-init: $2"
    else
        echo "runtime-init: $2"
    fi
}

# State that the service manager shows.
report() {
    if [ -n "${NOTIFY_SOCKET:-}" ] && command -v systemd-notify >/dev/null 2>&1; then
        systemd-notify --status="$1" || true
    fi
}

steps=0
begin=$(now)
for step in /usr/lib/runtime-init.d/*; do
    [ -f "$step" ] || continue
    name=${step##*/}
    say 6 "step $name"
    report "step $name"
    start=$(now)
    status=0
    "$step" </dev/null || status=$?
    took=$(($(now) - start))
    took=$((took / 100)).$((took / 10 % 10))$((took % 10))
    if [ "$status" -ne 0 ]; then
        failure="step $name FAILED with exit status $status after $took s"
        say 3 "$failure; services that wait for it do not start"
        report "$failure"
        exit 1
    fi
    say 6 "step $name done in $took s"
    steps=$((steps + 1))
done
took=$(($(now) - begin))
took=$((took / 100)).$((took / 10 % 10))$((took % 10))
say 6 "$steps steps done in $took s"
report "$steps steps done"
"""


def render_runner() -> str:
    """The POSIX shell text of ``/usr/bin/runtime-init``."""
    return _RUNNER


def render_step(step: OrderedStep) -> str:
    """The drop-in of a step: its own text where that begins with ``#!``, else POSIX shell that stops at a failure."""
    if step.script.startswith("#!"):
        return step.script if step.script.endswith("\n") else step.script + "\n"
    body = step.script.strip("\n")
    return f"#!/bin/sh\n# Boot step {quoting.shell_comment(step.name)}\nset -eu\n\n{body}\n"
