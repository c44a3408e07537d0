"""Scopes of an image: profiles, all profiles at once, and modules. Inside a ``with`` block declarations go there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, SourceSpan

from tdx import _values as v
from tdx._callsite import caller_span, frame_span, is_internal, outer_frame
from tdx._declarations import Declarations, State
from tdx._declare import Site, signature_of
from tdx._layer import LayerBuilder, PendingModule


class Scope:
    """A context in which declarations go to other layers; leaving it brings the former ones back.

    ``call`` and ``span`` are what made it and where; ``entered`` is whether it was ever used in a ``with``.
    """

    def __init__(self, image: Declarations, inner: State, call: str, span: SourceSpan) -> None:
        self._image = image
        self._inner = inner
        self._outer = inner
        self.call = call
        self.span = span
        self.entered = False

    def __enter__(self) -> None:
        self.entered = True
        self._outer = self._image.enter_state(self._inner)

    def __exit__(self, *_exception: object) -> None:
        self._image.enter_state(self._outer)


class ScopeDeclarations(Declarations):
    """``image.profile``, ``image.all_profiles`` and ``image.module``."""

    _profiles: dict[str, LayerBuilder]
    _scopes: list[Scope]

    def _scope(self, state: State, call: str, span: SourceSpan) -> Scope:
        scope = Scope(self, state, call, span)
        self._scopes.append(scope)
        return scope

    def _check_scopes(self) -> None:
        """E_RECIPE for each scope that nobody entered: what should stand in it has gone to the image as a whole."""
        for scope in self._scopes:
            if not scope.entered:
                message = f"image.{scope.call} opens a block, and no `with` enters it"
                self._faults.add(Code.E_RECIPE, message, scope.span, fix=f"write `with image.{scope.call}:`")
        self._scopes.clear()

    def profile(self, name: v.ProfileName) -> Scope:
        """Declare inside of the block for one profile only; verbs there act on that profile.

        A profile may be entered again: its declarations add up.
        """
        site = self._state.site or Site(span=caller_span(self._root))
        faults = list(signature_of(ScopeDeclarations.profile).faults((name,), {}, site))
        self._faults.extend(faults)
        if self._state.profiles is not None or self._state.in_module:
            message = f"profile {name!r} stands inside of another profile or a module"
            self._faults.add(Code.E_UNSUPPORTED, message, site.span, fix="leave the outer block first")
            return self._scope(self._state, f"profile({name!r})", site.span)
        layer = LayerBuilder(site.span) if faults else self._profiles.setdefault(name, LayerBuilder(site.span))
        state = records.evolve(self._state, layers=(layer,), profiles=(name,))
        return self._scope(state, f"profile({name!r})", site.span)

    def all_profiles(self) -> Scope:
        """Declare inside of the block for each profile that the recipe has so far; verbs there act on each."""
        site = self._state.site or Site(span=caller_span(self._root))
        if not self._profiles:
            self._faults.add(
                Code.E_REFERENCE, "all_profiles(): the image has no profile yet", site.span, fix="declare one before"
            )
            return self._scope(self._state, "all_profiles()", site.span)
        layers = tuple(self._profiles.values())
        state = records.evolve(self._state, layers=layers, profiles=tuple(self._profiles))
        return self._scope(state, "all_profiles()", site.span)

    def module(self, name: v.ModuleName) -> Scope:
        """Group what a module declares under the module's name; for the ``apply`` of a module.

        Faults and origins then point at the line of the recipe that applied the module.
        """
        frame = sys._getframe(1)  # noqa: SLF001 - the only way to a caller's position
        site = self._state.site or _applying_site(frame, self._root)
        span = site.span if site else caller_span(self._root)
        if faults := tuple(_name_faults(name, span)):
            self._faults.extend(faults)
            scope = self._scope(self._state, "module()", span)
            scope.entered = True  # one fault is enough
            return scope
        layer = LayerBuilder(span)
        self._add("modules", [PendingModule(name, layer)])
        state = records.evolve(self._state, layers=(layer,), site=site, in_module=True)
        return self._scope(state, f"module({name!r})", span)


def _name_faults(name: object, span: SourceSpan) -> Iterator[Diagnostic]:
    """What is wrong with the name of a module; who gives the module itself is told how one is applied."""
    for fault in signature_of(ScopeDeclarations.module).faults((name,), {}, Site(span=span)):
        applied = callable(getattr(name, "apply", None))
        yield (
            records.evolve(fault, fix="a module is applied by its own method: Module(…).apply(image)")
            if applied
            else fault
        )


def _applying_site(frame: FrameType, root: Path) -> Site | None:
    """The line that applied a module whose ``apply`` runs in ``frame``; None for a block at module level."""
    applier: FrameType | None = frame
    if not is_internal(frame.f_code.co_filename):
        if frame.f_code.co_name == "<module>":
            return None
        applier = frame.f_back
    found = outer_frame(applier)
    return None if found is None else Site(span=frame_span(found, root))
