"""KconfigEmitter: ``kernel/config`` and ``kernel/fragments/NN-NAME.config``."""

from __future__ import annotations

import re
from typing import ClassVar

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.grammar import print_option
from tdxc.ir import KconfigFragment, KernelSource, ResolvedImage
from tdxc.tree import FileTree, Origin, TreeBuilder, TreeFile

HEADER = "# Kernel options that this image requires; the bake checks the packaged configuration against them.\n"
SOURCE_HEADER = (
    "# Kernel options that this image's kernel is built with; it takes its own default for every other one.\n"
)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class KconfigEmitter:
    """Writes the merged options (what a kernel from source starts from, then what is demanded; each sorted by name),
    and each fragment as given; names are numbered in merge order."""

    name: ClassVar[str] = "kconfig"

    def emit(self, image: ResolvedImage) -> FileTree:
        """The files under ``kernel/``. Raises E_EMIT for a fragment whose name cannot be a file's."""
        kernel = image.kernel
        tree = TreeBuilder()
        header = SOURCE_HEADER if kernel.source is KernelSource.SOURCE else HEADER
        options = (*kernel.base_options, *kernel.options)
        text = header + "".join(f"{print_option(option)}\n" for option in options)
        tree.add("kernel/config", TreeFile.text(text, origin=Origin(span=kernel.span, cause="merged kernel options")))
        for fragment in kernel.fragments:
            tree.add(f"kernel/fragments/{_checked(fragment)}.config", _file(fragment))
        return tree.build()


def _checked(fragment: KconfigFragment) -> str:
    if not _FILE_NAME.fullmatch(fragment.name):
        raise DiagnosticError.of(
            Code.E_EMIT,
            f"kernel fragment {fragment.name!r} has a name that cannot be a file's",
            fragment.span,
            fix="use letters, digits, '.', '_' and '-'",
        )
    return fragment.name


def _file(fragment: KconfigFragment) -> TreeFile:
    text = fragment.text if fragment.text.endswith("\n") or not fragment.text else fragment.text + "\n"
    return TreeFile.text(text, origin=Origin(span=fragment.span, cause=fragment.cause))
