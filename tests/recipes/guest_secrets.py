"""An image that waits for secrets, and a service that shows, without printing them, that it has them."""

from tdx import Image, SecretSchema, SecretTarget
from tdx.modules import SecretDelivery, Tdxs

READER = """\
#!/bin/sh
# Prints what the service sees of its secrets: digests, modes and owners.
set -eu
digest() { sha256sum | cut -c1-64; }
echo "reader: credential $(digest <"$CREDENTIALS_DIRECTORY/api_token")"
echo "reader: variable $(printf %s "$API_TOKEN" | digest)"
echo "reader: port $PORT"
echo "reader: file $(digest </run/secrets/api-token) $(stat -c '%a %U:%G' /run/secrets/api-token)"
if cat /run/tdx-guest/secrets/state.json >/dev/null 2>&1; then echo "reader: reads the state"; fi
echo "reader: done"
"""

img = Image("guest-secrets", base="debian/trixie")
img.output_targets("qemu")
img.user("reader", system=True)
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
    extra_unit={"Service": {"StandardOutput": "journal+console", "StandardError": "journal+console"}},
)
