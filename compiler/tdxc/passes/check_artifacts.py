"""Checks of whom artifacts belong to: an owner must not reach what is the distribution's or another build's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import Artifact, Base, Build, Layer

_DISTRIBUTION: Mapping[str, tuple[str, ...]] = {
    "": ("boot", "efi", "etc", "home", "media", "mnt", "opt", "root", "srv", "usr", "var"),
    "/etc": (
        "apt",
        "cron.d",
        "default",
        "network",
        "pam.d",
        "profile.d",
        "security",
        "skel",
        "ssh",
        "ssl",
        "sudoers.d",
    ),
    "/etc/ssl": ("certs", "private"),
    "/etc/systemd": ("network", "system", "user"),
    "/usr": ("bin", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "local", "sbin", "share", "src"),
    "/usr/lib": ("firmware", "modules", "x86_64-linux-gnu"),
    "/usr/lib/systemd": ("network", "system", "user"),
    "/usr/local": ("bin", "etc", "games", "include", "lib", "libexec", "man", "sbin", "share", "src"),
    "/usr/share": ("dbus-1", "doc", "info", "man", "misc", "polkit-1"),
    "/var": ("backups", "cache", "lib", "local", "log", "mail", "opt", "spool"),
    "/var/cache": ("apt", "private"),
    "/var/lib": ("dpkg", "misc", "private", "systemd"),
    "/var/log": ("private",),
}
_CONFIGURATION = ("modprobe.d", "modules-load.d", "sysctl.d", "systemd", "sysusers.d", "tmpfiles.d", "udev")
"""Folders that are in ``/etc`` and in ``/usr/lib``."""


def check_artifact_owners(layer: Layer, base: Base) -> Iterator[Diagnostic]:
    """E_PATH for a folder of the distribution given to a user, E_CONFLICT for one that a profile copies over."""
    for index, build in enumerate(layer.builds):
        for artifact in build.artifacts:
            if _owner(artifact) == ("root", "root"):
                continue
            who = artifact.owner if artifact.owner != "root" else f"group {artifact.group}"
            if _is_shared(base.place(artifact.dest.rstrip("/") + "/")[:-1]):
                yield Diagnostic(
                    code=Code.E_PATH,
                    message=f"artifact of '{build.name}': '{artifact.dest}' is a folder of the distribution, which"
                    f" cannot be given to {who}",
                    span=_node(build, artifact).span,
                    fix="name the file in it, or give the build a folder of its own, such as /opt/NAME",
                )
            for later in layer.builds[index + 1 :]:
                yield from _covered(build, artifact, who, later, base)


def _is_shared(place: str) -> bool:
    """Whether many parts of a system share a folder (Filesystem Hierarchy Standard 3.0; file-hierarchy(7)).

    Others that turn out to be shared stay root's when the image is made.
    """
    parent, _, name = place.rpartition("/")
    return name in _DISTRIBUTION.get(parent, ()) or (parent in {"/etc", "/usr/lib"} and name in _CONFIGURATION)


def _covered(build: Build, artifact: Artifact, who: str, later: Build, base: Base) -> Iterator[Diagnostic]:
    """A profile's build whose folder is above: its files would take the place of this artifact's, and its owner."""
    for other in later.artifacts:
        above = base.place(other.dest.rstrip("/") + "/")
        if base.place(artifact.dest).startswith(above) and _owner(other) != _owner(artifact):
            yield Diagnostic(
                code=Code.E_CONFLICT,
                message=f"artifact of '{later.name}': '{other.dest}' is copied over '{artifact.dest}' of"
                f" '{build.name}', which belongs to {who}",
                span=_node(later, other).span,
                notes=(Note(message="the artifact below it is declared here", span=_node(build, artifact).span),),
                fix=f"declare '{later.name}' in the image itself, or give each its own folder",
            )


def _owner(artifact: Artifact) -> tuple[str, str]:
    return artifact.owner, artifact.group


def _node(build: Build, artifact: Artifact) -> Build | Artifact:
    return artifact if artifact.span.file else build
