"""lower-ssh: an SSH server for development, with the keys that the recipe gives.

The server is dropbear without its packaging: the package ``dropbear-bin`` makes no host key when it is installed, so
the image holds none; each boot makes its own. Passwords are refused.
"""

from __future__ import annotations

import re
from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticSink, Note
from tdxc.ir import (
    Blob,
    BootStep,
    Directive,
    Directory,
    Distribution,
    File,
    FirewallRule,
    Hardening,
    Package,
    Protocol,
    ResolvedImage,
    SandboxNeeds,
    Section,
    Ssh,
    Unit,
    Verdict,
)
from tdxc.passes.base import PassContext
from tdxc.passes.lower_image import with_packages

SSH_UNIT = "dropbear.service"
KEYS_PATH = "/root/.ssh/authorized_keys"
HOST_KEY_FOLDER = "/etc/dropbear"

_KEY_TYPE = re.compile(r"ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9-]+@openssh\.com")
_CAUSE = "lower-ssh: the recipe enables ssh"


class LowerSsh:
    """Add the server, its unit and the authorised keys of root."""

    name: ClassVar[str] = "lower-ssh"
    description: ClassVar[str] = "an SSH server with the recipe's keys, for development"
    requires: ClassVar[frozenset[str]] = frozenset({"lower-network"})
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-ssh"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with the server where the recipe enables one; always warns, for a production image has none."""
        ssh = image.ssh
        if ssh is None or not ssh.enabled:
            return image
        if ssh.key_delivery == "http":
            _refuse_http(ssh, ctx.sink)
        for index, key in enumerate(ssh.authorized_keys, start=1):
            _check_key(key, index, ssh, ctx.sink)
        _warn(image, ssh, ctx.sink)
        image = with_packages(image, Package(span=ssh.span, cause=_CAUSE, name=_package(image)))
        image = records.evolve(
            image,
            files=tuple(sorted((*image.files, *_keys_file(image, ssh)), key=lambda file: file.path)),
            directories=tuple(sorted((*image.directories, *_folders(image, ssh)), key=lambda folder: folder.path)),
        )
        if image.init == "systemd":
            units = () if any(unit.name == SSH_UNIT for unit in image.units) else (_unit(image, ssh),)
            return records.evolve(image, units=tuple(sorted((*image.units, *units), key=lambda unit: unit.name)))
        step = BootStep(span=ssh.span, cause=_CAUSE, name="ssh", script=" ".join(_command(ssh)), priority=9000)
        return records.evolve(image, boot_steps=(*image.boot_steps, step))


def _refuse_http(ssh: Ssh, sink: DiagnosticSink) -> None:
    sink.add(
        Code.E_UNSUPPORTED,
        "ssh(key_delivery='http') would take a key from whoever posts one first, and nothing here can tell who that is",
        ssh.span,
        notes=(Note(message="a guest that takes its owner's key unchecked belongs to its host"),),
        fix="use key_delivery='file' with authorized_keys=[...]; for other secrets there is the module SecretDelivery",
    )


def _check_key(key: str, index: int, ssh: Ssh, sink: DiagnosticSink) -> None:
    """An authorized_keys line without options; its text is never repeated, since it may be the wrong half."""
    if "PRIVATE KEY" in key:
        fault = "is a private key: the image would give it to everybody who has the image"
    elif "\n" in key or "\r" in key or "\0" in key:
        fault = "holds a line break"
    else:
        fault = "" if _is_public_key(key) else "is not 'TYPE BASE64 [COMMENT]' as in a .pub file"
    if fault:
        sink.add(
            Code.E_VALUE,
            f"ssh(): authorized key {index} {fault}",
            ssh.span,
            fix="give the content of the .pub file, one string for each key",
        )


def _is_public_key(key: str) -> bool:
    """Whether the blob repeats the type, as RFC 4253, section 6.6 has it."""
    import base64  # few images have keys

    kind, _, rest = key.strip().partition(" ")
    if not _KEY_TYPE.fullmatch(kind):
        return False
    try:
        blob = base64.b64decode(rest.strip().partition(" ")[0], validate=True)
    except ValueError:
        return False
    return blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()) and len(blob) > len(kind) + 4


def _warn(image: ResolvedImage, ssh: Ssh, sink: DiagnosticSink) -> None:
    notes = [Note(message="whoever logs in can read the memory that the trust domain is there to protect")]
    if not ssh.authorized_keys and ssh.key_delivery == "file":
        notes.append(Note(message="no authorized_keys are given, and passwords are refused: nobody can log in"))
    if image.network.rules is not None and not _reachable(image.network.rules, ssh.port):
        notes.append(Note(message=f"no firewall rule accepts tcp {ssh.port}: nobody can connect"))
    sink.add(
        Code.W_DEVELOPMENT,
        "the image runs an SSH server",
        ssh.span,
        notes=tuple(notes),
        fix="keep ssh() to a profile that is never deployed",
    )


def _reachable(rules: tuple[FirewallRule, ...], port: int) -> bool:
    """Whether some rule accepts the port, for whatever source."""
    return any(
        rule.verdict is Verdict.ACCEPT
        and rule.protocol in {Protocol.ALL, Protocol.TCP}
        and (not rule.ports or any(p.first <= port <= p.last for p in rule.ports))
        for rule in rules
    )


def _package(image: ResolvedImage) -> str:
    return "dropbear" if image.base.distribution is Distribution.ALPINE else "dropbear-bin"


def _command(ssh: Ssh) -> tuple[str, ...]:
    """dropbear(8): -E logs to stderr, -R makes host keys when needed, -s refuses passwords."""
    return ("/usr/sbin/dropbear", "-E", "-R", "-s", "-p", str(ssh.port))


_UNNEEDED_CAPABILITIES = (
    "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_LEASE", "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE", "CAP_SYS_PACCT", "CAP_WAKE_ALARM",
)  # fmt: skip

_LOGIN_SANDBOX = (
    ("LockPersonality", "yes"),
    ("NoNewPrivileges", "yes"),
    ("RestrictRealtime", "yes"),
    ("CapabilityBoundingSet", f"~{' '.join(_UNNEEDED_CAPABILITIES)}"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "~@cpu-emulation @obsolete"),
    ("SystemCallErrorNumber", "EPERM"),
)
"""A login inherits the sandbox of the server. Who logs in does so to look at everything as root (mounts, devices, other
processes, packets), so only what serves no such purpose is taken away."""


def _unit(image: ResolvedImage, ssh: Ssh) -> Unit:
    def section(name: str, *pairs: tuple[str, str]) -> Section:
        directives = tuple(Directive(span=ssh.span, cause=_CAUSE, key=key, value=value) for key, value in pairs)
        return Section(span=ssh.span, cause=_CAUSE, name=name, directives=directives)

    return Unit(
        span=ssh.span,
        cause=_CAUSE,
        name=SSH_UNIT,
        sections=(
            section("Unit", ("Description", "SSH server for development"), ("After", "network.target")),
            section("Service", ("ExecStart", " ".join((*_command(ssh), "-F"))), ("Restart", "always"), *_LOGIN_SANDBOX),
        ),
        wanted_by=(image.default_target,),
        early=True,
        needs=SandboxNeeds(span=ssh.span, cause=_CAUSE, hardening=Hardening.NONE),
    )


def _keys_file(image: ResolvedImage, ssh: Ssh) -> tuple[File, ...]:
    if not ssh.authorized_keys or any(file.path == KEYS_PATH for file in image.files):
        return ()
    text = "".join(f"{key.strip()}\n" for key in ssh.authorized_keys)
    return (File(span=ssh.span, cause=_CAUSE, path=KEYS_PATH, content=Blob.of_text(text), mode=0o600),)


def _folders(image: ResolvedImage, ssh: Ssh) -> tuple[Directory, ...]:
    own = {directory.path for directory in image.directories}
    wanted = (HOST_KEY_FOLDER, "/root/.ssh")
    return tuple(Directory(span=ssh.span, cause=_CAUSE, path=path, mode=0o700) for path in wanted if path not in own)
