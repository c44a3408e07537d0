"""The table of YAML keys: each row names a key, how its value is read, which builder it calls, and what it means.

It is the single source of parsing, of the suggestions for unknown keys and of the JSON Schema. The parameters of a
row are those of its builder, with the types of the builder's own signature; ``descriptions.py`` says what each means.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any

from tdxc import records

from tdx.backends import LimaMkosiBackend, LocalLinuxBackend, NixMkosiBackend
from tdx.build import Build
from tdx.image import Image
from tdx.kernel import Kernel
from tdx.policy import Policy


class Shape(enum.Enum):
    """How a key's value is read."""

    ATTRIBUTE = "a value, assigned to the image"
    CALL = "a mapping: one call"
    EACH = "a list of mappings: one call each"
    WORDS = "a list of words: one call each"
    VALUE = "a mapping: a value that is assigned or handed over"
    VALUES = "a list of mappings: values handed over one by one"
    VARIANT = "a word, or a mapping of one word to arguments: a value that is assigned"
    VARIANTS = "a list of mappings of one word to arguments: values handed over one by one"
    MODULES = "a list of modules by class name"
    PROFILES = "a mapping of names to the same keys again"


@records.frozen(kw_only=True)
class Key:
    """One key. ``builder`` is the function whose signature the value follows; ``target`` the image's own name.

    ``shorthand`` is the parameter that a plain word stands for, where words may stand instead of mappings.
    ``variants`` are the builders that a VARIANT chooses from, by word.
    """

    name: str
    shape: Shape
    description: str
    target: str = ""
    builder: Callable[..., Any] | None = None
    shorthand: str = ""
    variants: tuple[tuple[str, Callable[..., Any]], ...] = ()
    in_profile: bool = True


def _attribute(name: str, description: str, *, in_profile: bool = True) -> Key:
    return Key(name=name, shape=Shape.ATTRIBUTE, target=name, description=description, in_profile=in_profile)


def _calls(shape: Shape, name: str, builder: Callable[..., Any], description: str, shorthand: str = "") -> Key:
    """A key whose value makes calls of the image's own method."""
    return Key(
        name=name,
        shape=shape,
        builder=builder,
        target=builder.__name__,
        shorthand=shorthand,
        description=description,
    )


_call = functools.partial(_calls, Shape.CALL)
_each = functools.partial(_calls, Shape.EACH)
_words = functools.partial(_calls, Shape.WORDS)

BACKENDS = (("local", LocalLinuxBackend), ("nix", NixMkosiBackend), ("lima", LimaMkosiBackend))

KEYS: tuple[Key, ...] = (
    _attribute("name", "The image's name.", in_profile=False),
    _attribute("base", "The distribution and release to start from.", in_profile=False),
    _attribute("version", "The image's version.", in_profile=False),
    _attribute("reproducible", "Whether two bakes must give the same bytes.", in_profile=False),
    _attribute("mirror", "The package mirror's URI; none: the one of the build host.", in_profile=False),
    _attribute("snapshot", "The point in time of the package archive, such as 20251113T083151Z.", in_profile=False),
    Key(
        name="backend",
        shape=Shape.VARIANT,
        target="backend",
        variants=BACKENDS,
        description="Where mkosi runs.",
        in_profile=False,
    ),
    Key(
        name="kernel",
        shape=Shape.VALUE,
        target="kernel",
        builder=Kernel.tdx,
        description="The kernel, its options and its command line.",
    ),
    _attribute("init", "The init system: systemd, busybox, or an absolute path in the image."),
    _attribute("default_target", "The target that the image boots."),
    _attribute("firmware", "The firmware: ovmf, or a file of the recipe's folder, for `run` and `measure`."),
    _attribute("locale", "The locale to keep; null strips all of them."),
    _attribute("docs", "Whether manual pages and documentation stay."),
    _attribute("cloud", "The cloud that the image is for."),
    _attribute("attestation_backend", "How the image proves what it is."),
    Key(
        name="partitions",
        shape=Shape.VALUES,
        target="partitions",
        builder=Image.partition,
        description="Partitions of the image's own disk.",
    ),
    _call("encryption", Image.encryption, "How data partitions are encrypted."),
    _call("network", Image.network, "How the guest gets its address, and what may reach it."),
    _call("ssh", Image.ssh, "An SSH server, for development.", shorthand="enabled"),
    _each("suites", Image.suite, "Further suites of the same mirror.", shorthand="name"),
    _each("repositories", Image.repository, "Further APT sources."),
    _words("install", Image.install, "Packages to install."),
    _words("build_packages", Image.build_packages, "Packages for build scripts only."),
    _each("files", Image.file, "Files to put into the image."),
    _each("templates", Image.template, "Files that jinja2 renders."),
    _each("directories", Image.directory, "Directories to make.", shorthand="path"),
    _each("symlinks", Image.symlink, "Symbolic links to make."),
    _each("groups", Image.group, "Groups to make.", shorthand="name"),
    _each("users", Image.user, "Users to make.", shorthand="name"),
    _each("services", Image.service, "Services, each in a sandbox unless it says otherwise."),
    _each("sockets", Image.socket, "Sockets that activate services."),
    _each("timers", Image.timer, "Timers that start services."),
    _each("targets", Image.target, "Targets that group units.", shorthand="name"),
    _each("mounts", Image.mount, "Mounts."),
    _each("units", Image.unit, "Units of any kind, by their sections."),
    _each("drop_ins", Image.drop_in, "Directives for units that packages bring."),
    Key(
        name="builds",
        shape=Shape.VARIANTS,
        target="build",
        variants=(
            ("go", Build.go),
            ("rust", Build.rust),
            ("dotnet", Build.dotnet),
            ("c", Build.c),
            ("script", Build.script),
        ),
        description="Programs to build from source.",
    ),
    _each("run", Image.run, "Shell text to run while the image is made.", shorthand="command"),
    _each("run_scripts", Image.run_script, "Shell scripts to run while the image is made.", shorthand="src"),
    _each("on_boot", Image.on_boot, "Shell text to run once at each boot, before the services.", shorthand="command"),
    Key(name="modules", shape=Shape.MODULES, description="Modules to apply, by class name."),
    _call(
        "debloat",
        Image.debloat,
        "Whether to remove what the image does not use, and what to keep.",
        shorthand="enabled",
    ),
    _call("efi_stub", Image.efi_stub, "The package that the UKI's stub comes from."),
    _words("output_targets", Image.output_targets, "Platforms to make an artifact for."),
    Key(
        name="policy",
        shape=Shape.VALUE,
        target="set_policy",
        builder=Policy,
        description="Rules for bakes of this image.",
    ),
    Key(
        name="profiles",
        shape=Shape.PROFILES,
        description="Deltas over the image, by name.",
        in_profile=False,
    ),
)

KEYS_BY_NAME = {key.name: key for key in KEYS}
