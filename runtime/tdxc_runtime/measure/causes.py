"""Say in words why a boot's events differ from the prediction.

The likeliest cause is read off the pattern of differences over all registers: which UKI sections changed, whether the
image changed although no section did, whether only the memory layout moved. What a digest hides is tried: a changed
command line is looked for among the expected one with a usual word added or one of its words removed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from tdxc_runtime.measure.differences import Difference, Subject, Topic, text_of, topic_of_predicted
from tdxc_runtime.measure.events import EventType, PredictedEvent
from tdxc_runtime.measure.logs.data import ImageLoadData, parse_event_data
from tdxc_runtime.measure.logs.describe import describe
from tdxc_runtime.measure.logs.model import LogEvent

# Words that people and tools add to a kernel's command line, most of them to look for a fault.
USUAL_WORDS = (
    *(
        "debug",
        "quiet",
        "single",
        "1",
        "3",
        "rescue",
        "emergency",
        "rw",
        "ro",
        "nomodeset",
        "nokaslr",
        "ignore_loglevel",
    ),
    *(
        "loglevel=7",
        "loglevel=8",
        "initcall_debug",
        "earlyprintk=ttyS0",
        "earlycon",
        "efi=debug",
        "panic=-1",
        "panic=0",
    ),
    *(
        "console=ttyS0",
        "console=ttyS0,115200",
        "console=ttyS0,115200n8",
        "console=hvc0",
        "console=tty0",
        "console=ttyS1",
    ),
    *(
        "console=uart,io,0x3f8",
        "init=/bin/sh",
        "init=/bin/bash",
        "rd.break",
        "rd.debug",
        "rd.shell",
        "printk.devkmsg=on",
    ),
    *("systemd.unit=rescue.target", "systemd.unit=emergency.target", "systemd.debug_shell", "systemd.debug_shell=1"),
    *("systemd.debug-shell", "systemd.debug-shell=1", "systemd.log_level=debug", "systemd.log_target=console"),
    *("systemd.journald.forward_to_console=1", "mitigations=off", "audit=0", "selinux=0", "apparmor=0", "nosmp"),
)


class Kind(enum.StrEnum):
    """The causes that can be told apart."""

    TRUNCATED_LOG = "truncated-log"
    COMMAND_LINE = "command-line"
    INITRD = "initrd"
    KERNEL = "kernel"
    STUB = "stub"
    MEMORY = "memory"
    MACHINE = "machine"
    FIRMWARE = "firmware"
    VARIABLES = "variables"
    BOOT_ORDER = "boot-order"
    PARTITIONS = "partitions"
    IMAGE = "image"
    OTHER_SECTION = "section"
    BOOT_PATH = "boot-path"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class Cause:
    """A cause: its kind and one sentence or two."""

    kind: Kind
    sentence: str

    @property
    def explains(self) -> frozenset[Subject]:
        """The subjects whose differences this cause accounts for."""
        return _EXPLAINS.get(self.kind, frozenset(Subject))


_IMAGE_PARTS = frozenset({Subject.SECTION, Subject.IMAGE, Subject.INITRD})
_EXPLAINS = {
    Kind.COMMAND_LINE: frozenset({Subject.SECTION, Subject.IMAGE, Subject.LOAD_OPTIONS, Subject.PARAMETER}),
    Kind.INITRD: _IMAGE_PARTS,
    Kind.KERNEL: _IMAGE_PARTS,
    Kind.STUB: _IMAGE_PARTS | {Subject.LOAD_OPTIONS, Subject.OTHER},
    Kind.IMAGE: _IMAGE_PARTS,
    Kind.OTHER_SECTION: _IMAGE_PARTS,
    Kind.MEMORY: frozenset({Subject.MEMORY, Subject.PLATFORM}),
    Kind.MACHINE: frozenset({Subject.PLATFORM}),
    Kind.FIRMWARE: frozenset({Subject.FIRMWARE}),
    Kind.VARIABLES: frozenset({Subject.VARIABLE}),
    Kind.BOOT_ORDER: frozenset({Subject.BOOT_VARIABLE}),
    Kind.PARTITIONS: frozenset({Subject.PARTITIONS}),
    Kind.BOOT_PATH: frozenset({Subject.ACTION, Subject.SEPARATOR}),
}


def likely_causes(
    found: Sequence[Difference],
    predicted: Iterable[PredictedEvent],
    hints: Mapping[bytes, str] | None = None,
) -> tuple[Cause, ...]:
    """The causes that explain the differences, the likeliest first; empty for no differences.

    ``predicted`` is the whole prediction that was compared: what it could have shown matters as much as what it shows.
    ``hints`` maps digests to what they would mean ("the memory layout of 8 GiB"); a logged digest that is among them is
    named in the sentence.
    """
    if not found:
        return ()
    if all(d.at_end for d in found):
        return (_truncated(found),)
    view = _View(found, frozenset(topic_of_predicted(event)[0] for event in predicted), hints or {})
    causes = [cause for rule in _RULES if (cause := rule(view)) is not None]
    return tuple(causes) or (_unknown(found),)


class _View:
    """The differences by what they are about."""

    def __init__(self, found: Sequence[Difference], subjects: frozenset[Subject], hints: Mapping[bytes, str]) -> None:
        self.all = found
        self.shows_sections = Subject.SECTION in subjects
        self.hints = hints
        self.by_topic: dict[Topic, list[Difference]] = {}
        for difference in found:
            self.by_topic.setdefault(difference.topic, []).append(difference)

    def about(self, subject: Subject, name: str | None = None) -> list[Difference]:
        """The differences about a subject; with a name, about that thing alone."""
        found = (d for t, ds in self.by_topic.items() for d in ds if t[0] is subject and name in {None, t[1]})
        return list(found)

    def changed(self, subject: Subject, name: str | None = None) -> Difference | None:
        """The first of them that has both sides: the thing is there and differs."""
        both = (d for d in self.about(subject, name) if d.expected is not None and d.found is not None)
        return next(both, None)

    @property
    def sections(self) -> set[str]:
        """The names of the sections that differ in any way."""
        return {name for subject, name in self.by_topic if subject is Subject.SECTION}


def _truncated(found: Sequence[Difference]) -> Cause:
    first = found[0].expected
    what = f", the first of them: {_name(first)} in {found[0].register}" if first is not None else ""
    count = "the last event is" if len(found) == 1 else f"the last {len(found)} events are"
    return Cause(
        kind=Kind.TRUNCATED_LOG,
        sentence=f"the log is truncated, or the boot went no further: all events in it are as predicted, but {count} "
        f"missing{what}",
    )


def _kernel(view: _View) -> Cause | None:
    section = view.changed(Subject.SECTION, ".linux")
    if section is not None:
        name = view.changed(Subject.SECTION, ".uname")
        release = _expected_text(name) if name is not None else ""
        detail = f" (the image was predicted with {release})" if release else ""
        return Cause(
            kind=Kind.KERNEL, sentence=f"another kernel runs: the section .linux differs{detail}{_from(section)}"
        )
    inner = [d for d in view.about(Subject.IMAGE) if d.found is not None and _is_kernel(d.expected)]
    if inner and not view.shows_sections:
        return Cause(kind=Kind.KERNEL, sentence=f"another kernel runs: its image differs{_from(inner[0])}")
    return None


def _is_kernel(event: PredictedEvent | None) -> bool:
    """Whether a predicted image is a kernel of its own rather than a UKI."""
    return event is not None and (event.origin.section == ".linux" or "kernel" in event.description.lower())


def _command_line(view: _View) -> Cause | None:
    section, options = view.changed(Subject.SECTION, ".cmdline"), view.changed(Subject.LOAD_OPTIONS)
    if section is None and options is None and not view.about(Subject.SECTION, ".cmdline"):
        added = _parameters(view)
        return None if not added else Cause(kind=Kind.COMMAND_LINE, sentence=_passed(added[0]))
    change = _cmdline_change(section, options, _parameters(view))
    source = _sets(section or options)
    how = "" if section is not None else ", and not by the image: it was passed or extended at boot"
    return Cause(kind=Kind.COMMAND_LINE, sentence=f"the command line of the running image {change}{how}{source}")


def _parameters(view: _View) -> list[str]:
    """Command lines that systemd-stub logged because they were passed to it (PCR 12)."""
    extra = (d.found for d in view.about(Subject.PARAMETER) if d.found is not None and d.expected is None)
    return [text for event in extra if (text := text_of(event))]


def _passed(text: str) -> str:
    return f"a command line was passed to the image at boot: '{text}'"


def _cmdline_change(section: Difference | None, options: Difference | None, logged: Sequence[str]) -> str:
    """How the command line differs, from the log's own text where it has one, else from what hashes to its digest."""
    expected = _expected_text(options) or _expected_text(section)
    if logged:
        return _text_change(expected, logged[0])
    for difference in (options, section):
        if difference is None or difference.found is None or not expected:
            continue
        digests = {digest for _, digest in difference.found.digests}
        for text in _candidates(expected):
            if any(a.digest(data) in digests for data in _encodings(text) for a, _ in difference.found.digests):
                return _text_change(expected, text)
    return f"is not '{expected}'" if expected else "differs"


def _text_change(expected: str, actual: str) -> str:
    """``has 'debug' appended``, ``lacks 'quiet'``, or the text itself."""
    if expected and actual.startswith(f"{expected} "):
        return f"has `{actual[len(expected) + 1 :]}` appended"
    if expected and actual.endswith(f" {expected}"):
        return f"has `{actual[: -len(expected) - 1]}` put in front"
    missing = [word for word in expected.split() if word not in actual.split()]
    if missing and set(actual.split()) < set(expected.split()):
        return f"lacks `{' '.join(missing)}`"
    return f"is '{actual}'"


def _candidates(expected: str) -> Iterator[str]:
    """The expected command line with a usual word added at either end, or without one of its words."""
    yield expected
    for word in USUAL_WORDS:
        yield f"{expected} {word}"
        yield f"{word} {expected}"
    words = expected.split(" ")
    if len(words) <= 64:
        for position in range(len(words)):
            yield " ".join(words[:position] + words[position + 1 :])


def _encodings(text: str) -> tuple[bytes, ...]:
    """A command line as the kernel's load options have it, and as a UKI section may have it."""
    plain = text.encode()
    return (text.encode("utf-16-le", "surrogatepass") + b"\0\0", plain + b"\0", plain, plain + b"\n", plain + b"\n\0")


def _expected_text(difference: Difference | None) -> str:
    """The text that a predicted event hashes, where the prediction kept it."""
    if difference is None or difference.expected is None or difference.expected.data is None:
        return ""
    data = difference.expected.data
    encoding = "utf-16-le" if difference.expected.event_type == EventType.EV_EVENT_TAG else "utf-8"
    return data.decode(encoding, "replace").rstrip("\0").strip()


def _initrd(view: _View) -> Cause | None:
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
            f"something (a credential, an add-on, a boot secret) or added it in another way{_from(event)}",
        )
    return Cause(
        kind=Kind.INITRD,
        sentence="the initrd of the running image has other contents, be it one more file, one less or one changed"
        f"{_size_change(view)}{_from(section or event)}",
    )


def _size_change(view: _View) -> str:
    """How much larger or smaller the running image is, where both sides tell its size."""
    image = view.changed(Subject.IMAGE)
    if image is None or image.found is None:
        return ""
    data = parse_event_data(image.found.event_type, image.found.data)
    return f" (the firmware loaded an image of {data.length} bytes)" if isinstance(data, ImageLoadData) else ""


def _stub(view: _View) -> Cause | None:
    """The UKI differs and none of its payload sections does, or the stub measures in another way."""
    payload = any(view.changed(Subject.SECTION, name) for name in (".linux", ".cmdline", ".initrd"))
    images = view.about(Subject.IMAGE)
    image = next((d for d in images if d.expected and d.found and not _is_kernel(d.expected)), None)
    signs = []
    if view.changed(Subject.SECTION, ".sbat"):
        signs.append("its section .sbat, which names the stub's version, differs")
    if any(d.found is None and _is_kernel(d.expected) for d in images):
        signs.append("the inner kernel is not measured by the firmware, as with systemd-stub 258 and later")
    if any(d.expected is None for d in images) and image is not None:
        signs.append("one more image is measured, as the inner kernel is with systemd-stub 257 and earlier")
    if any(d.expected is None or d.found is None for d in view.about(Subject.SECTION)):
        signs.append("other sections are measured")
    if not signs and not payload and image is not None and view.shows_sections and not view.sections:
        signs.append("kernel, command line and initrd are as predicted and yet the image as a whole differs")
    return (
        Cause(kind=Kind.STUB, sentence=f"another systemd-stub runs: {'; '.join(signs)}{_from(image)}")
        if signs
        else None
    )


def _memory(view: _View) -> Cause | None:
    layout, platform = view.changed(Subject.MEMORY), view.about(Subject.PLATFORM)
    if layout is not None:
        same = "same events, " if len(view.all) == len(view.about(Subject.MEMORY)) + len(platform) else ""
        return Cause(
            kind=Kind.MEMORY,
            sentence=f"{same}other memory size{_hint(view, layout)}: the memory layout that the "
            f"firmware received (TD HOB) differs{_from(layout)}",
        )
    if not platform:
        return None
    names = ", ".join(dict.fromkeys(_name(d.expected) if d.expected else describe_found(d) for d in platform[:4]))
    acpi = [d for d in platform if EventType.EV_PLATFORM_CONFIG_FLAGS in {_type(d.expected), _type(d.found)}]
    if len(acpi) <= 1 and all(d.expected is not None and d.found is not None for d in platform):
        return Cause(
            kind=Kind.MEMORY,
            sentence=f"same events, other memory size{_hint(view, platform[0])} in all likelihood: {names} differs, "
            "while other vCPUs or devices would also change the layout of the ACPI tables",
        )
    return Cause(
        kind=Kind.MACHINE,
        sentence="the machine is another one, the image is not to blame: vCPUs, devices, memory size or the QEMU build "
        f"differ{_hint(view, platform[0])}, which shows in {names}",
    )


def _type(event: PredictedEvent | LogEvent | None) -> int:
    return -1 if event is None else event.event_type


def describe_found(difference: Difference) -> str:
    """The logged side of a difference in words."""
    return describe(difference.found) if difference.found is not None else "an event"


def _hint(view: _View, difference: Difference) -> str:
    """What a logged digest means, where somebody knows."""
    digests = () if difference.found is None else (digest for _, digest in difference.found.digests)
    return next((f" ({view.hints[digest]})" for digest in digests if digest in view.hints), "")


def _firmware(view: _View) -> Cause | None:
    found = view.about(Subject.FIRMWARE)
    if not found:
        return None
    return Cause(
        kind=Kind.FIRMWARE, sentence=f"another firmware or variable store runs: {_sides(found[0])}{_from(found[0])}"
    )


def _variables(view: _View) -> Cause | None:
    found = view.about(Subject.VARIABLE)
    if not found:
        return None
    names = ", ".join(dict.fromkeys(d.topic[1] or "a variable" for d in found))
    return Cause(kind=Kind.VARIABLES, sentence=f"the Secure Boot state differs: {names}{_from(found[0])}")


def _boot_variables(view: _View) -> Cause | None:
    found = view.about(Subject.BOOT_VARIABLE)
    if not found:
        return None
    return Cause(
        kind=Kind.BOOT_ORDER,
        sentence=f"the boot entries differ, as they do with other devices or another firmware: {_sides(found[0])}",
    )


def _partitions(view: _View) -> Cause | None:
    found = view.about(Subject.PARTITIONS)
    if not found:
        return None
    return Cause(
        kind=Kind.PARTITIONS,
        sentence="the partition table differs: the disk was enlarged, repaired or written with other identifiers: "
        f"{_sides(found[0])}",
    )


def _other_sections(view: _View) -> Cause | None:
    names = sorted(view.sections - {".linux", ".cmdline", ".initrd", ".sbat", ".uname"})
    changed = [name for name in names if view.changed(Subject.SECTION, name)]
    if not changed:
        return None
    return Cause(kind=Kind.OTHER_SECTION, sentence=f"the sections {', '.join(changed)} of the image differ")


def _image(view: _View) -> Cause | None:
    """The image differs and the log has nothing that says which part of it."""
    image = view.changed(Subject.IMAGE)
    told = (_kernel, _command_line, _initrd, _stub, _other_sections)
    if image is None or any(rule(view) is not None for rule in told):
        return None
    return Cause(kind=Kind.IMAGE, sentence=f"another image was booted: {_sides(image)}{_from(image)}")


def _boot_path(view: _View) -> Cause | None:
    found = [*view.about(Subject.ACTION), *view.about(Subject.SEPARATOR)]
    if not found:
        return None
    return Cause(kind=Kind.BOOT_PATH, sentence=f"the boot took another path: {_sides(found[0])}")


_RULES = (
    _kernel,
    _command_line,
    _initrd,
    _stub,
    _memory,
    _firmware,
    _variables,
    _boot_variables,
    _partitions,
    _other_sections,
    _image,
    _boot_path,
)


def _unknown(found: Sequence[Difference]) -> Cause:
    return Cause(kind=Kind.UNKNOWN, sentence=f"the first difference is this: {_sides(found[0])}{_from(found[0])}")


def _sides(difference: Difference) -> str:
    """Both sides in words."""
    if difference.expected is None:
        return f"there is one event too many, {describe_found(difference)}"
    if difference.found is None:
        return f"one event is missing, {_name(difference.expected)}"
    return f"expected was {_name(difference.expected)}, found was {describe_found(difference)}"


def _name(event: PredictedEvent) -> str:
    return event.description or event.event_type.name


def _sets(difference: Difference | None) -> str:
    """Which line of the recipe sets a command line, else where it stems from."""
    span = difference.expected.origin.span if difference is not None and difference.expected is not None else None
    if span is None or not span.line:
        return _from(difference)
    return f": {span.file}:{span.line} sets '{_expected_text(difference)}'"


def _from(difference: Difference | None) -> str:
    """Where the expected side stems from, as the end of a sentence."""
    origin = str(difference.expected.origin) if difference is not None and difference.expected is not None else ""
    return f": {origin}" if origin else ""
