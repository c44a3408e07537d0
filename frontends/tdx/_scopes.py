"""Scopes of an image: profiles, all profiles at once, and modules. Inside a ``with`` block declarations go there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from tdxc import records
from tdxc.diagnostics import Code

from tdx import _values as v
from tdx._callsite import caller_span, frame_span, is_internal, outer_frame
from tdx._declarations import Declarations, State
from tdx._declare import Site, signature_of
from tdx._layer import LayerBuilder, PendingModule


class Scope:
    """A context in which declarations go to other layers; leaving it brings the former ones back."""

    def __init__(self, image: Declarations, inner: State) -> None:
        self._image = image
        self._inner = inner
        self._outer = inner

    def __enter__(self) -> None:
        self._outer = self._image.enter_state(self._inner)

    def __exit__(self, *_exception: object) -> None:
        self._image.enter_state(self._outer)


class ScopeDeclarations(Declarations):
    """``image.profile``, ``image.all_profiles`` and ``image.module``."""

    _profiles: dict[str, LayerBuilder]

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
            return Scope(self, self._state)
        layer = LayerBuilder(site.span) if faults else self._profiles.setdefault(name, LayerBuilder(site.span))
        return Scope(self, records.evolve(self._state, layers=(layer,), profiles=(name,)))

    def all_profiles(self) -> Scope:
        """Declare inside of the block for each profile that the recipe has so far; verbs there act on each."""
        if not self._profiles:
            site = self._state.site or Site(span=caller_span(self._root))
            self._faults.add(
                Code.E_REFERENCE, "all_profiles(): the image has no profile yet", site.span, fix="declare one before"
            )
            return Scope(self, self._state)
        layers = tuple(self._profiles.values())
        return Scope(self, records.evolve(self._state, layers=layers, profiles=tuple(self._profiles)))

    def module(self, name: str) -> Scope:
        """Group what a module declares under the module's name; for the ``apply`` of a module.

        Faults and origins then point at the line of the recipe that applied the module.
        """
        frame = sys._getframe(1)  # noqa: SLF001 - the only way to a caller's position
        site = self._state.site or _applying_site(frame, self._root)
        layer = LayerBuilder(site.span if site else caller_span(self._root))
        self._add("modules", [PendingModule(name, layer)])
        return Scope(self, records.evolve(self._state, layers=(layer,), site=site, in_module=True))


def _applying_site(frame: FrameType, root: Path) -> Site | None:
    """The line that applied a module whose ``apply`` runs in ``frame``; None for a block at module level."""
    applier: FrameType | None = frame
    if not is_internal(frame.f_code.co_filename):
        if frame.f_code.co_name == "<module>":
            return None
        applier = frame.f_back
    found = outer_frame(applier)
    return None if found is None else Site(span=frame_span(found, root))
