"""SecretDelivery: secrets that come into the guest after its boot, checked, and only to the places that are named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError, Note, SourceSpan
from tdxc.ir import DEFAULT_MAX_LENGTH, Secret
from tdxc.ir import SecretDelivery as DeliveryNode

from tdx import _values as v
from tdx._declare import Site, describes, describing_at, here, site_here
from tdx._kinds import Constraint, Problem
from tdx._secret import SecretReference
from tdx.image import Image
from tdx.modules._guest import SECRETS_PRIORITY, between, install_program
from tdx.secrets import SecretSchema, SecretTarget

DEFAULT_PORT = 8080
_LONGEST_TIMEOUT_S = 7 * 24 * 3600


def _address(value: str) -> Problem | None:
    import ipaddress

    plain, zone, name = value.partition("%")
    try:
        parsed = ipaddress.ip_address(plain) if value else None
    except ValueError:
        return Problem(Code.E_VALUE, f"{value!r} is no IP address", "leave it out for all addresses of the guest")
    if zone and (getattr(parsed, "ipv4_mapped", None) or not _INTERFACE.fullmatch(name)):
        return Problem(Code.E_VALUE, f"{value!r} is no IP address with the name of an interface behind '%'")
    return None


_INTERFACE = re.compile(r"[A-Za-z0-9_.:-]{1,15}")
"""The kernel takes 15 bytes (IFNAMSIZ of linux/if.h); these are those that names in use have."""


OptionalAddress = Annotated[str, Constraint(check=_address, noun="an IP address")]
BodySize = Annotated[int, between(1024, 1 << 20, "a size in bytes")]
Timeout = Annotated[int, between(0, _LONGEST_TIMEOUT_S, "a time in seconds, 0 for ever")]
Method = Literal["http_post", "vsock", "file", "env"]


class SecretDelivery:
    """Take secrets in after the boot steps, before the services that use them.

    ``http_post``: a server on ``port``, which proves by a quote what it is before anybody posts to it (``tdxc secrets
    send``); ``tls="generated"`` makes a certificate at each boot that the quote vouches for. ``vsock``: the same from
    the host. ``file``: JSON on a file or disk at ``source``. ``env``: systemd credentials ``tdx.secret.NAME`` of the
    machine. ``token_sha256`` is the SHA-256 of a one-time token that whoever posts must show. ``secrets`` are mappings
    with the arguments of :meth:`secret`, for YAML.
    """

    @describes
    def __init__(
        self,
        method: Method = "http_post",
        *,
        port: v.Port = DEFAULT_PORT,
        address: OptionalAddress = "",
        tls: Literal["generated", "files", "off"] | None = None,
        certificate: v.OptionalProgramPath = "",
        certificate_key: v.OptionalProgramPath = "",
        token_sha256: v.Sha256 = "",
        source: v.OptionalProgramPath = "",
        max_body_bytes: BodySize = DEFAULT_MAX_LENGTH,
        timeout: Timeout = 0,
        secrets: list[Mapping[str, object]] | tuple[Mapping[str, object], ...] = (),
    ) -> None:
        site = site_here()
        encryption = tls or ("generated" if method == "http_post" else "off")
        _check(method, source, encryption, (certificate, certificate_key), token_sha256, site.span)
        self._node = DeliveryNode(
            method=method,
            address=address if method == "http_post" else "",
            port=port if method in {"http_post", "vsock"} else 0,
            source=source,
            tls=encryption,
            certificate=certificate,
            certificate_key=certificate_key,
            token_sha256=token_sha256,
            max_body_bytes=max_body_bytes,
            timeout_seconds=timeout if method != "env" else 0,
            span=site.span,
        )
        self._secrets: list[Secret] = []
        self._applied: SourceSpan | None = None
        for index, given in enumerate(secrets):
            span = site.span_of("secrets", index)
            with describing_at(Site(span=span, label=f"secrets[{index}]", noun="key")):
                self.secret(**_arguments(given, span, f"secrets[{index}]"))

    @describes
    def secret(
        self,
        name: v.SecretName,
        *,
        required: bool = True,
        schema: SecretSchema | None = None,
        targets: list[SecretTarget] | tuple[SecretTarget, ...] = (),
    ) -> SecretReference:
        """Declare a secret; gives a reference for ``image.service(secrets=[...])``, which never becomes text.

        Services that use a ``required`` secret do not start before it has come. All secrets are declared before
        :meth:`apply`.
        """
        span = here()
        rule = schema or SecretSchema()
        self._check_secret(name, rule.min_length, span)
        node = Secret(
            name=name,
            required=required,
            kind=rule.kind,
            min_length=rule.min_length,
            max_length=min(rule.max_length, self._node.max_body_bytes),
            pattern=rule.pattern,
            enum=rule.enum,
            targets=tuple(target.node for target in targets),
            span=span,
        )
        self._secrets.append(node)
        return SecretReference(name, span)

    def _check_secret(self, name: str, min_length: int, span: SourceSpan) -> None:
        """Refuse a secret that would never come: the delivery has been applied, or its body is too short."""
        if self._applied is not None:
            message = f"the secret '{name}' is declared after the delivery was applied, so no image would know of it"
            raise DiagnosticError.of(
                Code.E_VALUE,
                message,
                span,
                fix="move delivery.apply(image) behind all secrets",
                notes=(Note(message="it was applied here", span=self._applied),),
            )
        most = self._node.max_body_bytes
        if min_length > most:
            message = f"the secret '{name}' has at least {min_length} characters, and max_body_bytes is {most}"
            raise DiagnosticError.of(Code.E_VALUE, message, span, fix="raise max_body_bytes, or lower min_length")

    def apply(self, image: Image) -> None:
        """Declare the delivery, the program that carries it out, and the folders that it writes to."""
        with image.module("SecretDelivery"):
            self._applied = image.place
            install_program(image)
            image.declare_one("secret_delivery", records.evolve(self._node, secrets=tuple(self._secrets)))
            if self._node.method == "vsock":
                image.network(vsock=True)
            paths = [target.path for secret in self._secrets for target in secret.targets if target.path]
            folders = sorted({path.rpartition("/")[0] for path in paths} - {"/run"} | {"/run/tdx-guest"})
            image.on_boot(
                f"mkdir -p -m 0711 {quoting.shell_words(folders)}", name="secret-delivery", priority=SECRETS_PRIORITY
            )


def _check(method: str, source: str, tls: str, files: tuple[str, str], token_sha256: str, span: SourceSpan) -> None:
    """What the arguments of a delivery must say together."""
    message = fix = ""
    if bool(source) != (method == "file"):
        message, fix = (
            "source is the path that method='file' reads, and no other",
            "write method='file', source='/dev/…'",
        )
    elif tls != "off" and method not in {"http_post", "vsock"}:
        message, fix = f"method='{method}' speaks no TLS", "leave tls out"
    elif all(files) != (tls == "files") or any(files) != all(files):
        message, fix = "certificate and certificate_key are the files of tls='files'", "give all three"
    elif token_sha256 and method not in {"http_post", "vsock"}:
        message, fix = f"method='{method}' asks nobody for a token", "leave token_sha256 out"
    elif files[1] and not files[1].startswith("/run/"):
        message, fix = (
            "certificate_key must be made at run time: a key in the image is everybody's",
            "name it below /run",
        )
    if message:
        raise DiagnosticError.of(Code.E_VALUE, f"SecretDelivery(): {message}", span, fix=fix)


def _arguments(given: Mapping[str, object], span: SourceSpan, label: str) -> dict[str, Any]:
    """The arguments of ``secret`` from a mapping, in which schema and targets are mappings too."""
    arguments: dict[str, Any] = dict(given)
    schema, targets = given.get("schema"), given.get("targets")
    if isinstance(schema, Mapping):
        with describing_at(Site(span=span, label=f"{label}.schema", noun="key")):
            arguments["schema"] = SecretSchema(**schema)
    if isinstance(targets, list | tuple):
        arguments["targets"] = [
            _target(target, span, f"{label}.targets[{index}]") for index, target in enumerate(targets)
        ]
    return arguments


def _target(given: object, span: SourceSpan, label: str) -> object:
    """``{file: {...}}`` or ``{env: {...}}`` as a target, where a plain word stands for the path or the name."""
    if not isinstance(given, Mapping) or len(given) != 1 or next(iter(given)) not in {"file", "env"}:
        if isinstance(given, SecretTarget):
            return given
        fix = "write `file: /run/secrets/name` or `env: NAME`"
        raise DiagnosticError.of(Code.E_TYPE, f"{label} must be one of file and env with its arguments", span, fix=fix)
    ((kind, value),) = given.items()
    maker, shorthand = (SecretTarget.file, "path") if kind == "file" else (SecretTarget.env, "name")
    arguments: Mapping[str, Any] = value if isinstance(value, Mapping) else {shorthand: value}
    with describing_at(Site(span=span, label=f"{label}.{kind}", noun="key")):
        return maker(**arguments)
