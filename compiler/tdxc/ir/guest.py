"""What runs inside of the guest for the image: its keys, its encrypted disks, its secrets and its quotes.

A secret's value never exists while an image is made. What the IR knows of a secret is its name, what a value must look
like, and its targets: the only places that a value can go to, all of them in the guest's memory.
"""

from __future__ import annotations

from tdxc import records
from tdxc.ir.node import Node

DEFAULT_MAX_LENGTH = 65536
"""The longest secret, and the longest body that the guest reads, unless the recipe says otherwise."""


@records.frozen(kw_only=True)
class GuestKey(Node):
    """A key that the guest has after its boot.

    ``strategy``: ``tpm`` (random, sealed to the TPM under the SHA-256 values of ``pcrs``; none stands for those that
    hold the image on the variant's platforms, which lower-guest names), ``random`` (of this boot only) or ``pipe``
    (read once from the named pipe ``pipe``, within ``timeout_seconds``). It is wiped once the disks are open unless it
    is to ``keep`` (``/run/tdx-guest/keys/NAME``, for root alone).
    """

    name: str
    strategy: str
    pcrs: tuple[int, ...] = ()
    pipe: str = ""
    timeout_seconds: int = 0
    keep: bool = False


@records.frozen(kw_only=True)
class EncryptedDisk(Node):
    """A LUKS2 volume ``/dev/mapper/NAME``, opened with the key ``key`` and mounted at ``mount_at``.

    ``strategy``: ``path`` (``device`` is it), ``pathglob`` (``device`` is a pattern) or ``largest``. ``format``: when
    it may be formatted (``on_initialize``, ``always``, ``never``, ``on_fail``). ``integrity`` makes dm-crypt detect
    changed sectors; ``grow`` lets the file system follow a disk that became larger.
    """

    name: str
    key: str
    strategy: str
    device: str = ""
    format: str = "on_initialize"
    mount_at: str
    mount_options: tuple[str, ...] = ()
    fs: str = "ext4"
    integrity: bool = False
    grow: bool = True
    wait_seconds: int = 0


@records.frozen(kw_only=True)
class SecretTarget(Node):
    """Where a secret goes: a ``file`` at ``path`` below /run, or the ``env``ironment variable ``variable``.

    ``scope`` of a variable is ``global`` (every service of the image) or a service's name.
    """

    kind: str
    path: str = ""
    mode: int = 0o400
    owner: str = "root"
    group: str = "root"
    variable: str = ""
    scope: str = ""


@records.frozen(kw_only=True)
class Secret(Node):
    """A secret by name, with what its value must be.

    ``kind``: ``string``, ``int``, ``json``, ``pem`` or ``base64``; lengths count characters of text and bytes of what
    base64 and JSON stand for; ``pattern`` is in RE2's syntax and is searched for.
    """

    name: str
    required: bool = True
    kind: str = "string"
    min_length: int = 0
    max_length: int = DEFAULT_MAX_LENGTH
    pattern: str = ""
    enum: tuple[str, ...] = ()
    targets: tuple[SecretTarget, ...] = ()


@records.frozen(kw_only=True)
class SecretDelivery(Node):
    """How secrets come into the guest: ``http_post`` or ``vsock`` (on ``port``), ``file`` (``source``) or ``env``.

    ``tls``: ``off``, ``generated`` (a certificate of this boot, which the quote vouches for) or ``files``.
    ``token_sha256`` (hex) is the digest of a one-time token that whoever posts must show; empty for none.
    ``timeout_seconds``: how long to wait for what is required; 0 for ever.
    """

    method: str
    address: str = ""
    port: int = 0
    source: str = ""
    tls: str = "off"
    certificate: str = ""
    certificate_key: str = ""
    token_sha256: str = ""
    max_body_bytes: int = DEFAULT_MAX_LENGTH
    timeout_seconds: int = 0
    secrets: tuple[Secret, ...] = ()


@records.frozen(kw_only=True)
class QuoteService(Node):
    """A socket on which the group ``group`` asks for quotes.

    ``source`` is ``configfs``, ``azure_vtpm``, ``fake`` or ``auto`` (what the variant's platform has; lower-guest
    decides). ``fake`` makes up its reports, for tests; such an image is marked as a test image.
    """

    source: str
    group: str
    socket: str
