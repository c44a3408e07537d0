"""Checks of single values that have few right answers, whichever frontend they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc.diagnostics import Code, Diagnostic, SourceSpan, nearest
from tdxc.ir import Firmware, Layer, Setting

OUTPUT_TARGETS = ("qemu", "azure", "gcp")
CLOUDS = ("qemu", "azure", "gcp")
INIT_SYSTEMS = ("systemd", "busybox")
PRIORITIES = range(10_000)
"""Boot steps' priorities are four digits in a file name."""

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}")
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*(?::[a-z0-9]+)?(?:[=/][A-Za-z0-9][A-Za-z0-9+.~:_-]*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BUILD = re.compile(r"(?!.*\.conf\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONTROL = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")


def check_values(layer: Layer) -> Iterator[Diagnostic]:
    """All faults of the layer's single values."""
    yield from _settings(layer)
    yield from _names(layer)
    for target in layer.output_targets:
        yield from _one_of("output target", target.name, OUTPUT_TARGETS, target.span)
    for step in layer.boot_steps:
        if step.priority not in PRIORITIES:
            message = f"boot step '{step.name}' has the priority {step.priority}, which is not between 0 and 9999"
            yield Diagnostic(code=Code.E_VALUE, message=message, span=step.span)
    for service in layer.services:
        for variable in service.environment:
            yield from _matches("environment variable", variable.name, _VARIABLE, variable.span)
            if "\0" in variable.value:
                message = f"environment variable '{variable.name}' holds a NUL character"
                yield Diagnostic(code=Code.E_VALUE, message=message, span=variable.span)
        if not service.exec:
            yield Diagnostic(
                code=Code.E_VALUE, message=f"service '{service.name}' has nothing to execute", span=service.span
            )
        for text in (*service.exec, service.description, service.working_directory):
            if _CONTROL.search(text):
                message = f"service '{service.name}': {text!r} holds a control character, which a unit cannot"
                yield Diagnostic(code=Code.E_VALUE, message=message, span=service.span)


def _settings(layer: Layer) -> Iterator[Diagnostic]:
    yield from _setting("init", layer.init, INIT_SYSTEMS, or_path=True)
    yield from _firmware(layer.firmware)
    yield from _setting("docs", layer.docs, ("yes", "no"))
    yield from _setting("cloud", layer.cloud, (*CLOUDS, ""))
    target = layer.default_target
    if target is not None and not (_UNIT.fullmatch(target.value) and target.value.endswith(".target")):
        yield Diagnostic(
            code=Code.E_VALUE,
            message=f"default_target '{target.value}' is not the name of a target",
            span=target.span,
            fix="write its whole name, such as 'minimal.target'",
        )


def _firmware(firmware: Firmware | None) -> Iterator[Diagnostic]:
    if firmware is not None and firmware.content is None:
        yield from _one_of("firmware", firmware.value, ("ovmf",), firmware.span)


def _setting(
    name: str, setting: Setting | None, choices: tuple[str, ...], *, or_path: bool = False
) -> Iterator[Diagnostic]:
    if setting is None or (or_path and setting.value.startswith(("/", "./", "../")) and "\0" not in setting.value):
        return
    yield from _one_of(name, setting.value, choices, setting.span)


def _one_of(what: str, value: str, choices: tuple[str, ...], span: SourceSpan) -> Iterator[Diagnostic]:
    if value not in choices:
        close = nearest(value, choices)
        listed = ", ".join(f"'{choice}'" for choice in choices if choice)
        yield Diagnostic(
            code=Code.E_VALUE,
            message=f"{what} {value!r} is none of {listed}",
            span=span,
            fix=f"did you mean '{close}'?" if close else f"write one of {listed}",
        )


def _names(layer: Layer) -> Iterator[Diagnostic]:
    for user in layer.users:
        yield from _matches("user name", user.name, _ACCOUNT, user.span)
    for group in layer.groups:
        yield from _matches("group name", group.name, _ACCOUNT, group.span)
    for name, span in [(s.name, s.span) for s in layer.services] + [(u.name, u.span) for u in layer.units]:
        yield from _matches("unit name", name, _UNIT, span)
    for step in layer.boot_steps:
        yield from _matches("boot step name", step.name, _STEP, step.span)
    for build in layer.builds:
        yield from _matches("name of a build", build.name, _BUILD, build.span)
    for package in (*layer.packages, *layer.build_packages):
        yield from _matches("package name", package.name, _PACKAGE, package.span)


def _matches(what: str, value: str, pattern: re.Pattern[str], span: SourceSpan) -> Iterator[Diagnostic]:
    if not pattern.fullmatch(value):
        yield Diagnostic(code=Code.E_VALUE, message=f"{value!r} is not a {what}", span=span)
