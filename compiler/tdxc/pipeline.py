"""Runs passes: checks their order, times them, verifies the IR after each, and shows each stage to observers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink
from tdxc.ir import AuthoredImage, ResolvedImage
from tdxc.ir.verify import verify_authored, verify_resolved
from tdxc.passes.base import ImageT, Pass, PassContext


class Observer(Protocol):
    """Looks at each stage; must not change anything."""

    def after_pass(self, stage: Stage) -> None:
        """Called once after each pass, in order."""


@records.frozen(kw_only=True)
class Stage:
    """One pass that has run: ``variant`` names the profiles of a resolved image, ``seconds`` is wall time."""

    index: int
    name: str
    variant: tuple[str, ...]
    before: AuthoredImage | ResolvedImage
    after: AuthoredImage | ResolvedImage
    seconds: float


def check_order(passes: Iterable[Pass[ImageT]], established: frozenset[str] = frozenset()) -> frozenset[str]:
    """The facts that hold behind ``passes``; raises E_INTERNAL when a pass needs one that nothing established."""
    for pass_ in passes:
        missing = pass_.requires - established
        if missing:
            raise DiagnosticError.of(
                Code.E_INTERNAL, f"pass '{pass_.name}' stands before what it needs: {', '.join(sorted(missing))}"
            )
        established |= pass_.establishes
    return established


def run_passes(
    image: ImageT,
    passes: tuple[Pass[ImageT], ...],
    sink: DiagnosticSink,
    observers: tuple[Observer, ...] = (),
    first_index: int = 1,
) -> ImageT:
    """Run ``passes`` in order; raises everything that all of them found when any of it is an error.

    A pass returns a usable image even where it reports an error, so those behind it run too and their faults are
    reported in the same go. What they stumble over then is a consequence, and not worth a word of its own.
    """
    ctx = PassContext(sink=sink)
    for index, pass_ in enumerate(passes, first_index):
        start = time.perf_counter()
        try:
            result = pass_.run(image, ctx)
        except DiagnosticError as error:
            sink.extend(error.diagnostics)
            break
        except Exception:
            if sink.has_errors:
                break
            raise
        seconds = time.perf_counter() - start
        stage = Stage(
            index=index, name=pass_.name, variant=_variant(result), before=image, after=result, seconds=seconds
        )
        for observer in observers:
            observer.after_pass(stage)
        if not sink.has_errors:
            _verify(result, pass_.name)
        image = result
    sink.raise_if_errors()
    return image


def _variant(image: AuthoredImage | ResolvedImage) -> tuple[str, ...]:
    return image.profiles if isinstance(image, ResolvedImage) else ()


def _verify(image: AuthoredImage | ResolvedImage, pass_name: str) -> None:
    faults = verify_resolved(image) if isinstance(image, ResolvedImage) else verify_authored(image)
    if faults:
        raise DiagnosticError(
            records.evolve(fault, message=f"pass '{pass_name}' broke the IR: {fault.message}") for fault in faults
        )
