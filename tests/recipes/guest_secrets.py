"""An image with all of the guest's modules: an encrypted disk, secrets that it waits for, and quotes for programs.

Its services show, without printing a value, what they see of them.
"""

from tdx import Image, SecretSchema, SecretTarget
from tdx.modules import DiskEncryption, KeyGeneration, SecretDelivery, Tdxs

READER = """\
#!/bin/sh
# Prints what the service sees of its secrets: digests, modes and owners; counts its starts on the disk.
set -eu
digest() { sha256sum | cut -c1-64; }
echo "reader: credential $(digest <"$CREDENTIALS_DIRECTORY/api_token")"
echo "reader: variable $(printf %s "$API_TOKEN" | digest)"
echo "reader: port $PORT"
echo "reader: file $(digest </run/secrets/api-token) $(stat -c '%a %U:%G' /run/secrets/api-token)"
if cat /run/tdx-guest/secrets/state.json >/dev/null 2>&1; then echo "reader: reads the state"; fi
starts=/persistent/reader/starts
cat "$starts" 2>/dev/null || true
echo "reader: a start that is written down, with $(digest <"$CREDENTIALS_DIRECTORY/api_token")" >>"$starts"
sync "$starts"
echo "reader: done, $(wc -l <"$starts") in all"
"""

WITNESS = """\
#!/bin/sh
# Prints what there is of secrets and data when nothing has been delivered yet. As a boot step, it gets a quote already.
set -eu
answer=$(printf '{"op":"issue","report_data":"%0128d"}\\n' 7 | nc -U -N -w 120 /run/tdxs.sock)
echo "witness: quoted $answer"
found=$(find /run -path '*secrets/?*' -type f -o -path '*credentials/?*' -name 'api*' -type f)
echo "witness: files of secrets: ${found:-none}"
echo "witness: starts on the disk: $(cat /persistent/reader/starts 2>/dev/null | wc -l)"
install -d -m 0700 -o reader /persistent/reader
"""

ASKER = """\
#!/bin/sh
# Asks the socket for a quote, and about that quote.
set -eu
ask() { nc -U -N -w 120 /run/tdxs.sock; }
answer=$(printf '{"op":"issue","report_data":"%0128d"}\\n' 42 | ask)
echo "asker: issued $answer"
quote=$(echo "$answer" | sed 's/.*"quote":"\\([^"]*\\)".*/\\1/')
{ printf '{"op":"validate","quote":"%s"}\\n' "$quote"; echo '{"op":"sell"}'; } | ask | sed 's/^/asker: answered /'
echo "asker: done"
"""

STRANGER = """\
#!/bin/sh
# Asks the same of the same socket, outside of its group.
echo '{"op":"issue"}' | nc -U -N -v /run/tdxs.sock 2>&1 | sed 's/^/stranger: /'
echo "stranger: done"
"""

TO_CONSOLE = {"Service": {"StandardOutput": "journal+console", "StandardError": "journal+console"}}

img = Image("guest-secrets", base="debian/trixie")
img.output_targets("qemu")
img.install("netcat-openbsd")
img.user("reader", system=True)
KeyGeneration(strategy="tpm").apply(img)
DiskEncryption(device="/dev/vdb", mount_at="/persistent").apply(img)
Tdxs(issuer="fake").apply(img)
delivery = SecretDelivery(method="http_post")
token = delivery.secret(
    "api_token",
    schema=SecretSchema(kind="string", min_length=8, pattern="^tok_"),
    targets=[
        SecretTarget.file("/run/secrets/api-token", mode=0o440, owner="root", group="reader"),
        SecretTarget.env("API_TOKEN"),
    ],
)
delivery.secret(
    "port",
    required=False,
    schema=SecretSchema(kind="int", max_length=5),
    targets=[SecretTarget.env("PORT", scope="reader")],
)
delivery.apply(img)
img.file("/usr/bin/reader", content=READER, mode=0o755)
img.service(
    "reader",
    exec="/usr/bin/reader",
    type="oneshot",
    user="reader",
    secrets=[token],
    writes=["/persistent/reader"],
    extra_unit=TO_CONSOLE,
)
img.file("/usr/bin/witness", content=WITNESS, mode=0o755)
img.on_boot("/usr/bin/witness", name="witness", priority=90)
img.file("/usr/bin/asker", content=ASKER, mode=0o755)
img.service("asker", exec="/usr/bin/asker", type="oneshot", supplementary_groups=["tdx"], extra_unit=TO_CONSOLE)
img.user("stranger", system=True)
img.file("/usr/bin/stranger", content=STRANGER, mode=0o755)
img.service("stranger", exec="/usr/bin/stranger", type="oneshot", user="stranger", extra_unit=TO_CONSOLE)
