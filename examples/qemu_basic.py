"""A minimal QEMU image: one package, one file, one user, two boot steps and one sandboxed service that greets.

tdxc compile examples/qemu_basic.py -o out
"""

from tdx import Image
from tdx.backends import LocalLinuxBackend

GREETER = """\
#!/bin/sh
# Greets once, as whoever systemd runs it, and stays: the image is up as long as this is.
set -eu
echo "greeter: $(jq -r .greeting /etc/greeter.json), says $(id -un), after $(cat /run/greeter/steps)"
echo "greeter: sandboxed with $(grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | tr -s '[:space:]' ' ')"
exec sleep infinity
"""

img = Image("qemu-basic", base="debian/trixie", backend=LocalLinuxBackend())
img.output_targets("qemu")
img.debloat(enabled=True)

img.install("jq")
img.file("/usr/bin/greeter", content=GREETER, mode=0o755)
img.file("/etc/greeter.json", content='{"greeting": "hello from a trust domain"}\n')
img.user("greeter", system=True)

img.on_boot(
    "install -d -m 0755 /run/greeter && printf prepare > /run/greeter/steps && echo 'boot step: prepare'",
    name="prepare",
    priority=10,
)
img.on_boot(
    "printf ,announce >> /run/greeter/steps && echo 'boot step: announce'",
    name="announce",
    priority=20,
    after=["prepare"],
)

img.network(firewall_rules=["ACCEPT icmp", "ACCEPT tcp 8080", "DROP all"])

img.service(
    "greeter",
    exec="/usr/bin/greeter",
    description="Greets from the trust domain",
    type="exec",
    user="greeter",
    restart="on-failure",
    extra_unit={"Service": {"StandardOutput": "journal+console"}},
)
