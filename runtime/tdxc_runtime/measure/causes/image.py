"""Causes that lie in the image: kernel, command line, initrd, stub, other sections."""

from __future__ import annotations

from tdxc_runtime.measure.causes.command_line import command_line_change
from tdxc_runtime.measure.causes.model import Cause, Kind
from tdxc_runtime.measure.causes.view import (
    STUB_SECTIONS,
    View,
    both_sides,
    expected_text,
    is_kernel,
    origin_clause,
)
from tdxc_runtime.measure.differences import Difference, Subject, text_of
from tdxc_runtime.measure.logs.data import ImageLoadData, parse_event_data


def kernel_cause(view: View) -> Cause | None:
    """Another kernel, by its section or by the image of its own that firmware loads."""
    section = view.changed(Subject.SECTION, ".linux")
    if section is not None:
        name = view.changed(Subject.SECTION, ".uname")
        release = expected_text(name) if name is not None else ""
        detail = f" (the image was predicted with {release})" if release else ""
        return Cause(
            kind=Kind.KERNEL,
            sentence=f"another kernel runs: the section .linux differs{detail}{origin_clause(section)}",
        )
    inner = [d for d in view.about(Subject.IMAGE) if d.found is not None and is_kernel(d.expected)]
    if inner and not view.shows_sections:
        return Cause(kind=Kind.KERNEL, sentence=f"another kernel runs: its image differs{origin_clause(inner[0])}")
    return None


def command_line_cause(view: View) -> Cause | None:
    """Another command line, in the image or passed to it."""
    section, options = view.changed(Subject.SECTION, ".cmdline"), view.changed(Subject.LOAD_OPTIONS)
    passed, sides = _parameters(view), view.about(Subject.SECTION, ".cmdline")
    if section is None and sides:
        verb = "has" if sides[0].expected is None else "lacks"
        sentence = f"the running image {verb} a command line of its own, unlike the predicted one{_sets(sides[-1])}"
        return Cause(kind=Kind.COMMAND_LINE, sentence=sentence)
    if section is None and options is None:
        sentence = f"a command line was passed to the image at boot: '{passed[0]}'" if passed else ""
        return Cause(kind=Kind.COMMAND_LINE, sentence=sentence) if passed else None
    change = command_line_change(section, options, passed)
    how = "" if section is not None else ", and not by the image: it was passed or extended at boot"
    sentence = f"the command line of the running image {change}{how}{_sets(section or options)}"
    return Cause(kind=Kind.COMMAND_LINE, sentence=sentence)


def _parameters(view: View) -> list[str]:
    """Command lines that systemd-stub logged because they were passed to it (PCR 12)."""
    extra = (d.found for d in view.about(Subject.PARAMETER) if d.found is not None and d.expected is None)
    return [text for event in extra if (text := text_of(event))]


def _sets(difference: Difference | None) -> str:
    """Which line of the recipe sets a command line, else where it stems from."""
    span = difference.expected.origin.span if difference is not None and difference.expected is not None else None
    if span is None or not span.line:
        return origin_clause(difference)
    return f": {span.file}:{span.line} sets '{expected_text(difference)}'"


def initrd_cause(view: View) -> Cause | None:
    """Another initrd, by its section or as the kernel received it."""
    section, event = view.changed(Subject.SECTION, ".initrd"), view.changed(Subject.INITRD)
    if section is None and event is None:
        return None
    image = view.changed(Subject.IMAGE)
    if section is None and view.shows_sections and image is not None:
        return None  # the stub packs its own files into the initrd, so another stub or section is the cause
    if section is None and view.shows_sections:
        return Cause(
            kind=Kind.INITRD,
            sentence="the kernel received another initrd although the section .initrd is the same: the stub added "
            f"something (a credential, an add-on, a boot secret) or added it in another way{origin_clause(event)}",
        )
    return Cause(
        kind=Kind.INITRD,
        sentence="the initrd of the running image has other contents, be it one more file, one less or one changed"
        f"{_size_change(view)}{origin_clause(section or event)}",
    )


def _size_change(view: View) -> str:
    """How much larger or smaller the running image is, where both sides tell its size."""
    image = view.changed(Subject.IMAGE)
    if image is None or image.found is None:
        return ""
    data = parse_event_data(image.found.event_type, image.found.data)
    return f" (the firmware loaded an image of {data.length} bytes)" if isinstance(data, ImageLoadData) else ""


def stub_cause(view: View) -> Cause | None:
    """The UKI differs and none of its payload sections does, or the stub measures in another way."""
    payload = any(view.changed(Subject.SECTION, name) for name in (".linux", ".cmdline", ".initrd"))
    images = view.about(Subject.IMAGE)
    image = next((d for d in images if d.expected and d.found and not is_kernel(d.expected)), None)
    signs = []
    if view.changed(Subject.SECTION, ".sbat"):
        signs.append("its section .sbat, which names the stub's version, differs")
    if any(d.found is None and is_kernel(d.expected) for d in images):
        signs.append("the inner kernel is not measured by the firmware, as with systemd-stub 258 and later")
    if any(d.expected is None for d in images) and image is not None:
        signs.append("one more image is measured, as the inner kernel is with systemd-stub 257 and earlier")
    added, missing = view.one_sided(added=True) & STUB_SECTIONS, view.one_sided(added=False) & STUB_SECTIONS
    if added or missing:
        verb = "measures" if added else "does not measure"
        signs.append(f"it {verb} {' and '.join(sorted(added or missing))}, as systemd-stub does from 254 on")
    if not signs and not payload and image is not None and view.shows_sections and not view.sections:
        signs.append("kernel, command line and initrd are as predicted and yet the image as a whole differs")
    return (
        Cause(kind=Kind.STUB, sentence=f"another systemd-stub runs: {'; '.join(signs)}{origin_clause(image)}")
        if signs
        else None
    )


def section_cause(view: View) -> Cause | None:
    """Sections that nothing else speaks of, or that only one side has."""
    told = {".linux", ".cmdline", ".initrd", ".sbat", ".uname"}
    changed = sorted(name for name in view.sections - told if view.changed(Subject.SECTION, name))
    added = sorted(view.one_sided(added=True) - STUB_SECTIONS)
    missing = sorted(view.one_sided(added=False) - STUB_SECTIONS)
    parts = (("has another", changed), ("also has", added), ("lacks", missing))
    found = [f"{verb} {' and '.join(names)}" for verb, names in parts if names]
    if not found:
        return None
    return Cause(kind=Kind.OTHER_SECTION, sentence=f"the running image {', '.join(found)}")


def image_cause(view: View) -> Cause | None:
    """The image differs and the log has nothing that says which part of it."""
    image = view.changed(Subject.IMAGE)
    told = (kernel_cause, command_line_cause, initrd_cause, stub_cause, section_cause)
    if image is None or any(rule(view) is not None for rule in told):
        return None
    return Cause(kind=Kind.IMAGE, sentence=f"another image was booted: {both_sides(image)}{origin_clause(image)}")
