"""Attributes of an image that a recipe assigns: ``image.init = "systemd"``, checked and kept with its line."""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeVar, overload

from tdxc.diagnostics import Code, Diagnostic, DiagnosticError
from tdxc.ir import Blob, Firmware, Setting

from tdx._callsite import caller_span
from tdx._declarations import Declarations
from tdx._declare import Site
from tdx._kinds import kind_of
from tdx._source import read_file
from tdx.kernel import Kernel

ValueT = TypeVar("ValueT")


class Store(enum.Enum):
    """Where an attribute's value goes: the image as a whole, or the layer that is declared now."""

    IDENTITY = enum.auto()
    SETTING = enum.auto()
    SWITCH = enum.auto()
    KERNEL = enum.auto()
    FIRMWARE = enum.auto()


class AttributeDeclarations(Declarations):
    """Assignment of attributes."""

    def assigned(self, name: str, default: Any) -> Any:
        """The last value that an attribute was given."""
        return self._assigned.get(name, default)

    def assign(self, name: str, hint: Any, store: Store, value: Any) -> None:
        """Check a value and keep it with its line; a fault goes to the image's sink and leaves the attribute."""
        site = self._given_site or Site(span=caller_span(self._root))
        problems = list(kind_of(hint).problems(value))
        label = f"{site.label}: " if site.label else ""
        self._faults.extend(
            Diagnostic(
                code=problem.code,
                message=f"{label}{name} {problem.text}",
                span=site.span,
                fix=problem.fix,
                notes=problem.notes,
            )
            for problem in problems
        )
        if problems:
            return
        outer, self._current = self._current, self._current or site.span
        try:
            self._store(name, store, value)
            self._assigned[name] = value
        except DiagnosticError as error:
            self._faults.extend(error.diagnostics)
        finally:
            self._current = outer

    def _store(self, name: str, store: Store, value: Any) -> None:
        match store:
            case Store.IDENTITY:
                if self._state.profiles is not None or self._state.in_module:
                    message = f"{name} is the same for the whole image; no profile or module can change it"
                    raise self._fault(Code.E_UNSUPPORTED, message, f"set {name} outside of the block")
            case Store.SETTING:
                self._put(name, Setting(value=value or "", span=self._span))
            case Store.SWITCH:
                self._put(name, Setting(value="yes" if value else "no", span=self._span))
            case Store.KERNEL:
                kernel: Kernel = value
                self._put(name, kernel.freeze(self._root))
            case Store.FIRMWARE:
                self._put(name, self._firmware(str(value)))

    def _firmware(self, value: str) -> Firmware:
        if "/" not in value and not value.endswith((".fd", ".bin")):
            return Firmware(value=value, span=self._span)
        file = read_file(self._root, value, outside=False, span=self._span)
        return Firmware(value=file.name, content=Blob.of(file.data), span=self._span)


class Attribute(Generic[ValueT]):
    """A descriptor: ``hint`` is the kind of its values; reading gives the last one assigned, or ``default``."""

    def __init__(self, hint: Any, store: Store, default: ValueT) -> None:
        self.hint = hint
        self.name = ""
        self._store = store
        self._default = default

    def __set_name__(self, owner: type[AttributeDeclarations], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, image: None, owner: type[AttributeDeclarations]) -> Attribute[ValueT]: ...

    @overload
    def __get__(self, image: AttributeDeclarations, owner: type[AttributeDeclarations]) -> ValueT: ...

    def __get__(
        self, image: AttributeDeclarations | None, owner: type[AttributeDeclarations]
    ) -> Attribute[ValueT] | ValueT:
        if image is None:
            return self
        value: ValueT = image.assigned(self.name, self._default)
        return value

    def __set__(self, image: AttributeDeclarations, value: ValueT) -> None:
        image.assign(self.name, self.hint, self._store, value)
