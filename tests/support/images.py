"""Small images for tests of passes and emitters."""

from __future__ import annotations

from typing import Any

import attrs
from tdxc.diagnostics import Diagnostic, DiagnosticSink, SourceSpan
from tdxc.ir import (
    Base,
    Debloat,
    Directive,
    Distribution,
    Firmware,
    Hardening,
    Kernel,
    KernelSource,
    Network,
    NetworkBackend,
    Policy,
    Reproducibility,
    ResolvedDebloat,
    ResolvedImage,
    ResolvedKernel,
    ResolvedNetwork,
    SandboxNeeds,
    Section,
    Unit,
)
from tdxc.passes.base import Pass, PassContext


def at(line: int) -> SourceSpan:
    """A place in the recipe."""
    return SourceSpan(file="recipe.py", line=line, column=1)


def image(**fields: Any) -> ResolvedImage:
    """A resolved image with every default, as the passes find it."""
    defaults: dict[str, Any] = {
        "span": at(1),
        "name": "test",
        "base": Base(distribution=Distribution.DEBIAN, release="trixie"),
        "kernel": ResolvedKernel(
            span=at(1), source=KernelSource.DISTRIBUTION, package="linux-image-cloud-amd64", cmdline=()
        ),
        "init": "systemd",
        "default_target": "minimal.target",
        "firmware": Firmware(value="ovmf"),
        "locale": "",
        "docs": False,
        "network": ResolvedNetwork(span=at(1), vsock=False, backend=NetworkBackend.NETWORKD, resolver=False),
        "authored_network": Network(),
        "authored_kernel": Kernel(),
        "policy": Policy(),
        "reproducibility": Reproducibility(enabled=True, source_date_epoch=0, seed=""),
        "debloat": ResolvedDebloat(enabled=False),
        "authored_debloat": Debloat(),
    }
    return ResolvedImage(**{**defaults, **fields})


def unit(
    name: str,
    *,
    line: int = 10,
    service: tuple[tuple[str, str], ...] = (),
    wanted_by: tuple[str, ...] = (),
    early: bool = False,
    needs: SandboxNeeds | None = None,
    hardening: Hardening = Hardening.DEFAULT,
    **relations: str,
) -> Unit:
    """A unit whose ``[Unit]`` directives are keyword arguments, such as ``After="a.service"``."""
    directives = tuple(Directive(span=at(line), key=key, value=value) for key, value in relations.items())
    sections = [Section(span=at(line), name="Unit", directives=directives)]
    kind = name.rpartition(".")[2]
    if kind == "service":
        rows = service or (("ExecStart", "/usr/bin/app"),)
        lines = tuple(Directive(span=at(line), key=key, value=value) for key, value in rows)
        sections.append(Section(span=at(line), name="Service", directives=lines))
        needs = needs or SandboxNeeds(span=at(line), hardening=hardening)
    return Unit(span=at(line), name=name, sections=tuple(sections), wanted_by=wanted_by, early=early, needs=needs)


def run(pass_: Pass[ResolvedImage], before: ResolvedImage) -> tuple[ResolvedImage, tuple[Diagnostic, ...]]:
    """What a pass makes of an image, and what it says; the image it was given must not change."""
    sink = DiagnosticSink()
    copy = attrs.evolve(before)
    after = pass_.run(before, PassContext(sink=sink))
    assert before == copy
    return after, sink.diagnostics


def unit_of(found: ResolvedImage, name: str) -> Unit:
    """The unit of that name."""
    return next(unit for unit in found.units if unit.name == name)
