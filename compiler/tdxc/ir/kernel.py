"""The kernel: where it comes from, its options and its command line."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.blob import Blob
from tdxc.ir.build import BuildSource, SourceFile
from tdxc.ir.node import Node

SOURCE_PACKAGE_PREFIX = "linux-source-"
"""How Debian and Ubuntu name the packages that hold a kernel's source."""


class KernelSource(enum.StrEnum):
    """Where the kernel comes from."""

    DISTRIBUTION = "distribution"
    SOURCE = "source"


@records.frozen(kw_only=True)
class KconfigOption(Node):
    """One kernel option without its ``CONFIG_`` prefix.

    ``value`` is as .config writes it: ``y``, ``m``, ``n`` (written ``# CONFIG_X is not set``), a number, or a string
    with its double quotes.
    """

    name: str
    value: str


@records.frozen(kw_only=True)
class KconfigFragment(Node):
    """A fragment file as the recipe gives it; ``source`` names the file, relative to the recipe."""

    name: str
    text: str
    source: str = ""


@records.frozen(kw_only=True)
class Kernel(Node):
    """The kernel as a recipe asks for it. ``version``, ``config_file``, ``source`` or ``patches`` ask for a build.

    ``config_name`` is the name of ``config_file``, relative to the recipe; ``source`` is a tarball, without it the
    distribution's package of the kernel's source is built. ``patches`` are in the order in which they are applied.
    """

    version: str = ""
    package: str = ""
    cmdline: str = ""
    source: BuildSource | None = None
    patches: tuple[SourceFile, ...] = ()
    config_file: Blob | None = None
    config_name: str = ""
    config: tuple[KconfigOption, ...] = ()
    fragments: tuple[KconfigFragment, ...] = ()


@records.frozen(kw_only=True)
class KernelArgument(Node):
    """One word of the kernel command line, in its final order."""

    text: str


@records.frozen(kw_only=True)
class ResolvedKernel(Node):
    """The kernel with every default explicit.

    ``options`` is the merged fragment set, sorted by name. With a distribution kernel they are what the bake checks
    the packaged ``/boot/config-*`` against. A kernel from source must have them, over ``base_options``, what its
    configuration starts from; its ``package`` is that of its source (empty for a tarball), its ``version`` as much of
    the kernel's as the recipe says (a package ``6.12`` may hold 6.12.57). ``monolithic`` is one without modules.
    """

    source: KernelSource
    package: str
    cmdline: tuple[KernelArgument, ...]
    version: str = ""
    options: tuple[KconfigOption, ...] = ()
    base_options: tuple[KconfigOption, ...] = ()
    fragments: tuple[KconfigFragment, ...] = ()
    monolithic: bool = False

    @property
    def cmdline_text(self) -> str:
        """The command line as it stands in the UKI's ``.cmdline`` section."""
        return " ".join(argument.text for argument in self.cmdline)
