"""Where packages come from: deb822 sources, keys and pins below ``mkosi.sandbox/``, as far as the recipe says.

- With a mirror, the tree brings ``mkosi.sources``; mkosi then writes no list of its own (25.3 and 27.1).
- A repository is a file of its own with its key, so that repositories of profiles add up.
- Without a mirror, mkosi's default (or what the bake is given) stays. A snapshot alone goes into ``mkosi.snapshot``,
  which mkosi 26 and later read; extra suites alone into ``rules/suites``, which a bake reads. A script guards
  both, for a mkosi that knows neither would install something else without a word.

mkosi itself sets ``Acquire::Check-Valid-Until=false``, which old snapshots need. Sources: sources.list(5),
apt_preferences(5), and Debian's snapshot service for the layout ``/archive/debian/TIMESTAMP``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.ir import Distribution, Repository, ResolvedImage, Suite
from tdxc.tree import Entry, FileTree, Origin, TreeFile

from tdxc_emitters.mkosi.project import SANDBOX, Phase, PhaseScript, Rule, origin_of
from tdxc_emitters.mkosi.templates import read_template

_APT = f"{SANDBOX}/etc/apt"
_KEYRINGS = {
    Distribution.DEBIAN: "/usr/share/keyrings/debian-archive-keyring.gpg",
    Distribution.UBUNTU: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
_COMPONENTS = {Distribution.DEBIAN: "main", Distribution.UBUNTU: "main universe"}
_SNAPSHOT_ROOT = {Distribution.DEBIAN: "archive/debian", Distribution.UBUNTU: "ubuntu"}
"""Where a snapshot service that is given without a path keeps the archive (mkosi 27.1 joins them alike)."""

_SNAPSHOT = re.compile(r"\d{8}T\d{6}Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""apt reads files with such names alone (sources.list(5), apt_preferences(5))."""


def source_files(image: ResolvedImage) -> FileTree:
    """Everything below ``mkosi.sandbox/``, and ``mkosi.snapshot``; raises E_VALUE for what apt could not read."""
    if image.base.distribution is Distribution.ALPINE:
        _refuse_apt(image)
        return FileTree()
    return FileTree(dict(_files(image)))


def source_rules(image: ResolvedImage) -> tuple[Rule, ...]:
    """``rules/suites``: the extra suites of an image that names no mirror to get them from."""
    if image.mirror:
        return ()
    return tuple(
        Rule(list="suites", line=_plain_name("suite", suite.name, suite.span), origin=origin_of(suite))
        for suite in image.suites
    )


def source_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The guard of what mkosi alone may not honour."""
    if image.mirror or not (image.snapshot or image.suites):
        return ()
    return (
        PhaseScript(
            phase=Phase.SYNC,
            rank=10,
            what="sources",
            purpose="Stop unless packages come from the snapshot and the suites that the recipe names.",
            body=read_template("check_sources.sh"),
            origin=Origin(span=image.span, cause="the recipe names a snapshot or suites, but no mirror"),
        ),
    )


def archive_uri(image: ResolvedImage) -> str:
    """The address of the distribution's archive, with the snapshot in it where there is one."""
    uri = check_uri("mirror", image.mirror, image.span).rstrip("/")
    if not image.snapshot or image.snapshot in uri.split("/"):
        return uri
    if not urlsplit(uri).path.strip("/"):
        uri = f"{uri}/{_SNAPSHOT_ROOT[image.base.distribution]}"
    return f"{uri}/{_snapshot(image)}"


def _refuse_apt(image: ResolvedImage) -> None:
    """What only apt could do, asked of an image that apk makes."""
    asked = [(suite.span, f"suite '{suite.name}'") for suite in image.suites]
    asked += [(repository.span, f"repository '{repository.name}'") for repository in image.repositories]
    if image.snapshot:
        asked.append((image.span, "a snapshot"))
    if asked:
        span, what = asked[0]
        raise DiagnosticError.of(
            Code.E_UNSUPPORTED,
            f"{what} cannot be used with {image.base.reference}, whose packages apk installs",
            span,
            fix="name a mirror that has what the image needs",
        )


def _files(image: ResolvedImage) -> Iterator[tuple[str, Entry]]:
    origin = Origin(span=image.span, cause="the recipe names where packages come from")
    if image.mirror:
        text = _header(image) + "\n".join(_stanzas(image))
        yield f"{_APT}/sources.list.d/mkosi.sources", TreeFile.text(text, origin=origin)
    elif image.snapshot:
        yield "mkosi.snapshot", TreeFile.text(f"{_snapshot(image)}\n", origin=origin)
    for suite in image.suites:
        name = _plain_name("suite", suite.name, suite.span)
        yield f"{_APT}/preferences.d/{name}.pref", TreeFile.text(_pin(image, suite), origin=origin_of(suite))
    for repository in image.repositories:
        yield from _repository(image, repository)


def _header(image: ResolvedImage) -> str:
    return f"# Package sources of image {quoting.shell_comment(image.name)}, compiled by tdxc.\n"


def _stanzas(image: ResolvedImage) -> Iterator[str]:
    """The archive with all its suites, and Debian's security archive where the layout tells where it is."""
    base, uri = image.base, archive_uri(image)
    release = _plain_name("release", base.release, base.span)
    suites = [release]
    if release not in {"sid", "unstable"}:
        suites.append(f"{release}-updates")
    if base.distribution is Distribution.UBUNTU:
        suites.append(f"{release}-security")
    suites += [_plain_name("suite", suite.name, suite.span) for suite in image.suites]
    keyring, components = _KEYRINGS[base.distribution], _COMPONENTS[base.distribution]
    yield _stanza(uri, dict.fromkeys(suites), components, keyring)
    if base.distribution is Distribution.DEBIAN and "/archive/debian/" in uri:
        security = uri.replace("/archive/debian/", "/archive/debian-security/")
        yield _stanza(security, {f"{release}-security": None}, components, keyring)


def _stanza(uri: str, suites: dict[str, None], components: str, keyring: str) -> str:
    fields = {
        "Types": "deb",
        "URIs": uri,
        "Suites": " ".join(suites),
        "Components": components,
        "Signed-By": keyring,
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def _pin(image: ResolvedImage, suite: Suite) -> str:
    return f"{_header(image)}Package: *\nPin: release n={suite.name}\nPin-Priority: {suite.priority}\n"


def _repository(image: ResolvedImage, repository: Repository) -> Iterator[tuple[str, Entry]]:
    span = repository.span
    name = _plain_name("repository", repository.name, span)
    if repository.key is None:
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"repository '{name}' has no key, so apt could not tell whose packages these are",
            span,
            fix="give key= the file with the repository's signing key",
        )
    armoured = repository.key.data.lstrip().startswith(b"-----BEGIN PGP")
    key_path = f"/etc/apt/keyrings/{name}.{'asc' if armoured else 'gpg'}"
    suites = dict.fromkeys(_word("suite", suite, span) for suite in repository.suites)
    components = " ".join(_word("component", component, span) for component in repository.components)
    text = _header(image) + _stanza(check_uri("repository", repository.uri, span), suites, components, key_path)
    yield f"{_APT}/sources.list.d/{name}.sources", TreeFile.text(text, origin=origin_of(repository))
    yield f"{SANDBOX}{key_path}", TreeFile(data=repository.key.data, origin=origin_of(repository, "its signing key"))


def _snapshot(image: ResolvedImage) -> str:
    if not _SNAPSHOT.fullmatch(image.snapshot):
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"snapshot {image.snapshot!r} is not a time such as 20251113T083151Z",
            image.span,
            fix="write it as YYYYMMDDTHHMMSSZ",
        )
    return image.snapshot


def check_uri(what: str, value: str, span: SourceSpan) -> str:
    """The address of a package source as given; E_VALUE for one that apt cannot use or that holds a password."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https", "file", "copy"} or any(ch.isspace() for ch in value) or "#" in value:
        raise DiagnosticError.of(Code.E_VALUE, f"{what} {value!r} is not an http, https, file or copy address", span)
    if parts.password or parts.username:
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"the address of the {what} holds a user name or password, which would be readable in the tree",
            span,
            fix="leave it out and give apt the credentials by auth.conf on the build host (apt_auth.conf(5))",
        )
    return value


def _plain_name(what: str, name: str, span: SourceSpan) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        raise DiagnosticError.of(Code.E_VALUE, f"{what} name {name!r} is not letters, digits and '_.-'", span)
    return name


def _word(what: str, value: str, span: SourceSpan) -> str:
    if not value or any(ch.isspace() for ch in value):
        raise DiagnosticError.of(Code.E_VALUE, f"{what} {value!r} of a repository is not one word", span)
    return value
