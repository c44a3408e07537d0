"""Image: what a recipe declares, the root object of the DSL.

An image is a small mutable builder. Each call and each assignment is checked at once and kept with its line; faults
are collected and raised together, in source order, by :meth:`Image.freeze` and so by every verb.

>>> image = Image("node")
>>> image.install("curl")
>>> image.freeze().name
'node'
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, NoReturn, ParamSpec

from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, nearest
from tdxc.ir import KNOWN_BASES, AuthoredImage

from tdx import _values as v
from tdx._attributes import Attribute, AttributeDeclarations, Store
from tdx._callsite import caller_frame, caller_span, frame_folder
from tdx._declarations import State
from tdx._declare import Site, given_site, signature_of
from tdx._layer import LayerBuilder, freeze_profiles
from tdx._rootfs import RootfsDeclarations
from tdx._scopes import ScopeDeclarations
from tdx._services import ServiceDeclarations
from tdx._session import active_session
from tdx._steps import StepDeclarations
from tdx._system import SystemDeclarations
from tdx._units import UnitDeclarations
from tdx._verbs import Verbs
from tdx.backends import Backend
from tdx.kernel import Kernel

DEFAULT_NAME = "tdx-image"
DEFAULT_BASE = "debian/trixie"

P = ParamSpec("P")


class UnknownNameError(DiagnosticError, AttributeError):
    """An attribute that images do not have, as a diagnostic and as what Python expects of a failed look-up."""


def _constructs(init: Callable[Concatenate[Image, P], None]) -> Callable[Concatenate[Image, P], None]:
    """Check what an image is made with; with faults, the image is made of defaults and keeps the faults."""

    @functools.wraps(init)
    def construct(self: Image, /, *args: P.args, **kwargs: P.kwargs) -> None:
        site = self._begin()
        faults = tuple(signature_of(init).faults(args, kwargs, site))
        self._faults.extend(faults)
        self._current = site.span
        if not faults:
            init(self, *args, **kwargs)
        self._current = None

    return construct


class Image(
    AttributeDeclarations,
    RootfsDeclarations,
    ServiceDeclarations,
    UnitDeclarations,
    StepDeclarations,
    SystemDeclarations,
    ScopeDeclarations,
    Verbs,
):
    """An image: a name, a base distribution, and everything that is declared on it."""

    name: Attribute[str] = Attribute(v.ImageName, Store.IDENTITY, DEFAULT_NAME)
    base: Attribute[str] = Attribute(v.BaseName, Store.IDENTITY, DEFAULT_BASE)
    version: Attribute[str] = Attribute(v.Version, Store.IDENTITY, "")
    reproducible: Attribute[bool] = Attribute(bool, Store.IDENTITY, default=True)
    mirror: Attribute[str] = Attribute(v.OptionalUri, Store.IDENTITY, "")
    snapshot: Attribute[str] = Attribute(v.Snapshot, Store.IDENTITY, "")
    backend: Attribute[Backend | None] = Attribute(Backend | None, Store.IDENTITY, None)
    kernel: Attribute[Kernel | None] = Attribute(Kernel, Store.KERNEL, None)
    init: Attribute[str] = Attribute(v.Init, Store.SETTING, "systemd")
    default_target: Attribute[str] = Attribute(v.TargetName, Store.SETTING, "minimal.target")
    firmware: Attribute[str] = Attribute(v.Line, Store.FIRMWARE, "ovmf")
    locale: Attribute[str | None] = Attribute(v.Locale | None, Store.SETTING, None)
    docs: Attribute[bool] = Attribute(bool, Store.SWITCH, default=False)
    cloud: Attribute[str] = Attribute(Literal["qemu", "azure", "gcp"], Store.SETTING, "")
    attestation_backend: Attribute[str] = Attribute(Literal["tdx", "azure", "gcp"], Store.SETTING, "")

    @_constructs
    def __init__(
        self,
        name: v.ImageName = DEFAULT_NAME,
        base: v.BaseName = DEFAULT_BASE,
        *,
        version: v.Version = "",
        reproducible: bool = True,
        mirror: v.OptionalUri = "",
        snapshot: v.Snapshot = "",
        backend: Backend | None = None,
    ) -> None:
        self.name, self.base, self.version = name, base, version
        self.reproducible, self.mirror, self.snapshot = reproducible, mirror, snapshot
        self.backend = backend

    def _begin(self) -> Site:
        """Set up an empty image; gives the place where it is made."""
        session = active_session()
        self._root = session.root if session else frame_folder(caller_frame())
        self._faults = DiagnosticSink()
        self._current = None
        self._counters = {}
        self._assigned = {}
        self._profiles = {}
        self._scopes = []
        site = given_site() or Site(span=caller_span(self._root), label="Image()")
        self._layer = LayerBuilder(site.span)
        self._state = State(layers=(self._layer,))
        if session:
            session.images.append(self)
        return site

    @property
    def folder(self) -> Path:
        """The recipe's folder, where relative paths of the recipe start."""
        return self._root

    def freeze(self) -> AuthoredImage:
        """The image as frozen IR; raises DiagnosticError with all faults of its declarations, in source order."""
        self._check_scopes()
        self._faults.raise_if_errors()
        return AuthoredImage(
            name=self.name,
            base=next(base for base in KNOWN_BASES if base.reference == self.base),
            version=self.version,
            reproducible=self.reproducible,
            mirror=self.mirror,
            snapshot=self.snapshot,
            layer=self._layer.freeze(),
            profiles=freeze_profiles(self._profiles),
            span=self._layer.span,
        )

    if not TYPE_CHECKING:  # type checkers know the names; these two say so to everyone else

        def __setattr__(self, name: str, value: object) -> None:
            if name.startswith("_") or isinstance(getattr(type(self), name, None), Attribute):
                object.__setattr__(self, name, value)
                return
            span = caller_span(self._root)
            if callable(getattr(type(self), name, None)):
                self._faults.add(Code.E_KEY, f"image.{name} is called, not assigned", span, fix=f"image.{name}(…)")
                return
            close = nearest(name, ATTRIBUTE_NAMES)
            fix = f"did you mean '{close}'?" if close else f"attributes: {', '.join(ATTRIBUTE_NAMES)}"
            self._faults.add(Code.E_KEY, f"an image has no attribute '{name}'", span, fix=fix)

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            close = nearest(name, (entry for entry in dir(type(self)) if not entry.startswith("_")))
            fix = f"did you mean '{close}'?" if close else ""
            raise UnknownNameError.of(
                Code.E_KEY, f"an image has no attribute '{name}'", caller_span(self._root), fix=fix
            )


ATTRIBUTE_NAMES = tuple(name for name, value in vars(Image).items() if isinstance(value, Attribute))
"""What a recipe may assign."""
