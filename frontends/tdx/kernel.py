"""Kernel: the image's kernel, its options and its command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Blob, KconfigFragment, KconfigOption, SourceFile
from tdxc.ir import Kernel as KernelNode

from tdx import _builds as b
from tdx import _values as v
from tdx._declare import describes, here
from tdx._source import Source, read_file

_BARE_VALUE = re.compile(r'[ymn]|-?[0-9]+|0x[0-9A-Fa-f]+|".*"')


@records.frozen
class Kernel:
    """A kernel as a recipe describes it; made by :meth:`tdx`, assigned to ``image.kernel``."""

    _node: KernelNode
    _config_file: str | None
    _fragments: tuple[str, ...]
    _patches: tuple[str, ...]
    _outside: bool

    @classmethod
    @describes
    def tdx(
        cls,
        *,
        version: v.Version = "",
        package: v.PackageName | None = None,
        cmdline: v.CommandLine = "",
        config_file: v.HostPath | None = None,
        config: Mapping[v.OptionName, v.OptionValue] | None = None,
        fragments: b.HostPaths = (),
        source: b.RemoteSource | None = None,
        patches: b.HostPaths = (),
        outside: bool = False,
    ) -> Kernel:
        """A kernel for trust domains: the distribution's by default, every knob open.

        ``package`` names another kernel package. ``version``, ``config_file``, ``source`` and ``patches`` ask for a
        build from source: the distribution's, or a ``tarball(url, sha256=…)``. ``config_file`` is a whole .config in
        place of ours. ``config`` sets options: ``"y"``, ``"m"``, ``"n"``, booleans, numbers, or text (which gets its
        quotes here). ``fragments`` are files of options in .config's own syntax. ``cmdline`` is added to the command
        line.
        """
        span = here()
        options: dict[str, KconfigOption] = {}
        for given, value in (config or {}).items():
            name = given.removeprefix("CONFIG_")
            if name in options:
                raise DiagnosticError.of(Code.E_CONFLICT, f"Kernel.tdx() gives the option {name} twice", span)
            options[name] = KconfigOption(name=name, value=option_value(name, value), span=span)
        node = KernelNode(
            version=version,
            package=package or "",
            cmdline=cmdline,
            source=None if source is None else b.remote_source(source, span),
            config=tuple(options[name] for name in sorted(options)),
            span=span,
        )
        file = None if config_file is None else str(config_file)
        return cls(node, file, tuple(map(str, fragments)), tuple(map(str, patches)), outside)

    def freeze(self, root: Path) -> KernelNode:
        """The IR node, with its files read; raises E_PATH, E_LIMIT or E_ENCODING."""
        node = self._node
        if self._config_file is not None:
            config = self._read(root, self._config_file)
            config.text(node.span)  # refuses what is not UTF-8
            node = records.evolve(node, config_file=Blob.of(config.data), config_name=config.name)
        return records.evolve(
            node,
            fragments=tuple(self._fragment(root, path) for path in self._fragments),
            patches=tuple(self._patch(root, path) for path in self._patches),
        )

    def _fragment(self, root: Path, path: str) -> KconfigFragment:
        source = self._read(root, path)
        name = source.name.rpartition("/")[2]
        return KconfigFragment(name=name, text=source.text(self._node.span), source=source.name, span=self._node.span)

    def _patch(self, root: Path, path: str) -> SourceFile:
        source = self._read(root, path)
        return SourceFile(path=source.name.rpartition("/")[2], content=Blob.of(source.data), span=self._node.span)

    def _read(self, root: Path, path: str) -> Source:
        return read_file(root, path, outside=self._outside, span=self._node.span)


def option_value(name: str, value: str | int | bool) -> str:
    r"""An option's value as .config writes it; text that is no tristate or number gets quotes.

    >>> option_value("LOCALVERSION", "-tdx")
    '"-tdx"'
    """
    if isinstance(value, bool):
        return "y" if value else "n"
    if isinstance(value, int) or _BARE_VALUE.fullmatch(value):
        return str(value)
    if any(ch < " " or ch == "\x7f" for ch in value):
        raise DiagnosticError.of(Code.E_VALUE, f"the value of {name} holds a control character", here())
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
