"""A unified kernel image as systemd-stub sees it: the sections of the base and of one profile, and the stub's version.

Sources: UAPI.5 Unified Kernel Image, "UKI Components" and "Multi-Profile UKIs"; systemd ``src/boot/pe.c``
(``pe_locate_profile_sections``): the base is what stands before the first ``.profile``, a profile what stands from its
``.profile`` to the next, and of several sections of one name within either the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, Note, SourceSpan

from tdxc_runtime.measure.pe.diagnose import artifact_error, read_image
from tdxc_runtime.measure.pe.image import PeImage, Section, section_window
from tdxc_runtime.measure.pe.overlaps import overlaps, spoiler
from tdxc_runtime.measure.sources import ByteSource, TruncatedInputError, Window

from .cmdline import decode_section
from .versions import HARDWARE_DEPENDENT_SECTIONS, StubRules, parse_stub_version, stub_rules

_MAX_ZERO_FILL = 16 << 20
_MAX_TEXT = 1 << 20
_PROFILE = ".profile"
_ALIGNED_STUB = "systemd-stub 254 or newer, whose sections have pages of their own"


@attrs.frozen(kw_only=True)
class Uki:
    """An opened UKI: where its bytes are, its headers, the sections in effect and the rules of its stub.

    ``artifact`` is the path that diagnostics and origins name. ``sections`` maps the names that the stub knows to the
    section that it will use for ``profile``.
    """

    artifact: str
    source: ByteSource
    image: PeImage
    stub_version: str
    rules: StubRules
    profile: int
    sections: Mapping[str, Section]

    def window(self, name: str) -> Window | None:
        """The bytes of a section as they lie in memory, or ``None`` when there is no such section."""
        section = self.sections.get(name)
        return section_window(self.source, section) if section else None

    def text(self, name: str) -> str | None:
        """A text section, decoded as the stub does; E_ARTIFACT when it is not UTF-8 or unreasonably large."""
        window = self.window(name)
        if window is None:
            return None
        data = self._read(window)
        try:
            data.split(b"\0", 1)[0].decode("utf-8")
        except UnicodeDecodeError:
            raise artifact_error(self.artifact, f"the section '{name}' is not UTF-8 text") from None
        return decode_section(data)

    def small(self, name: str) -> bytes | None:
        """The whole of a section that is never large, such as ``.osrel``."""
        window = self.window(name)
        return None if window is None else self._read(window)

    def _read(self, window: Window) -> bytes:
        if window.size > _MAX_TEXT:
            raise artifact_error(self.artifact, f"'{window.name}' has {window.size} bytes; text is at most {_MAX_TEXT}")
        return window.read(0, window.size)


def is_uki(image: PeImage) -> bool:
    """Whether an EFI image is a UKI rather than a plain kernel or a boot loader."""
    return image.section(".linux") is not None


def open_uki(source: ByteSource, *, artifact: str, profile: int = 0) -> Uki:
    """Read the headers and the stub's version of a UKI.

    E_ARTIFACT for a file that is no UKI, has no such profile, or has a section that the stub would not find as it is
    in the file; E_MEASUREMENT for an unknown stub, and for sections of which the stub chooses one by the machine's
    hardware.
    """
    image = read_image(source, artifact=artifact)
    if not is_uki(image):
        raise artifact_error(
            artifact, "this EFI image has no '.linux' section, so it is not a UKI", "name the UKI that the bake wrote"
        )
    version = _read_stub_version(source, image, artifact)
    rules = stub_rules(version, artifact=artifact)
    sections = _profile_sections(image.sections, profile, rules, artifact)
    for name in (n for n in HARDWARE_DEPENDENT_SECTIONS if n in sections):
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"the UKI has a '{name}' section, which the stub chooses by the hardware it runs on",
            SourceSpan(file=artifact),
            fix=f"build the UKI without '{name}' sections; virtual machines need none",
        )
    for section in sections.values():
        if section.virtual_size > section.raw_size + _MAX_ZERO_FILL:
            raise artifact_error(artifact, f"section '{section.name}' claims {section.virtual_size} bytes of memory")
        if (other := spoiler(image, section)) is not None:
            raise artifact_error(
                artifact,
                f"section '{section.name}' shares memory with {other}: the stub would not find what the file holds",
                f"build the UKI with ukify and {_ALIGNED_STUB}",
            )
    return Uki(
        artifact=artifact,
        source=source,
        image=image,
        stub_version=version,
        rules=rules,
        profile=profile,
        sections=sections,
    )


def overlap_warning(uki: Uki) -> tuple[Diagnostic, ...]:
    """W_MEASUREMENT when sections share memory, though none that the stub uses loses bytes by that.

    ukify adds lines of its own and of the kernel to the stub's '.sbat' where that is. In stubs before 254 the next
    section follows closely (``src/boot/efi/meson.build``: objcopy with ``--section-alignment=512``), and
    ``locate_sections`` in their ``src/boot/efi/pe.c`` reports that.
    """
    found = overlaps(uki.image)
    if not found:
        return ()
    one, other = found[0].earlier.name, found[0].later.name
    notes = (
        f"'{one}' has more in it than systemd-stub {uki.stub_version} has room for, such as what ukify adds to '.sbat'",
        "stubs before 254 report 'Overlapping PE sections' at every boot, and 252 waits 3 seconds then",
        "no section that is measured loses bytes",
    )
    warning = Diagnostic(
        code=Code.W_MEASUREMENT,
        message=f"the sections '{one}' and '{other}' of the UKI share memory",
        span=SourceSpan(file=uki.artifact),
        notes=tuple(Note(message=note) for note in notes),
        fix=f"pin another with efi_stub: {_ALIGNED_STUB}",
    )
    return (warning,)


def _read_stub_version(source: ByteSource, image: PeImage, artifact: str) -> str:
    magic = image.section(".sdmagic")
    version = None
    if magic is not None and magic.stored_size <= _MAX_TEXT:
        try:
            version = parse_stub_version(section_window(source, magic).read(0, magic.virtual_size))
        except TruncatedInputError:
            version = None
    if version is None:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            "the UKI does not say which systemd-stub it carries (no '.sdmagic' section)",
            SourceSpan(file=artifact),
            fix="build the UKI with systemd-stub 252 or newer",
        )
    return version


def _profile_sections(table: Sequence[Section], profile: int, rules: StubRules, artifact: str) -> dict[str, Section]:
    """The base sections, overridden by those of the profile. Empty sections count as absent."""
    starts = [index for index, section in enumerate(table) if section.name == _PROFILE]
    if starts and not rules.profiles:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"the UKI has profiles, which systemd-stub {rules.version} does not know",
            SourceSpan(file=artifact),
            fix="build the UKI with systemd-stub 257 or newer",
        )
    if profile and profile >= len(starts):
        raise artifact_error(
            artifact, f"the UKI has {max(1, len(starts))} profile(s), there is no profile {profile}", "choose another"
        )
    base = table[: starts[0]] if starts else table
    chosen: Sequence[Section] = ()
    if starts:
        end = starts[profile + 1] if profile + 1 < len(starts) else len(table)
        chosen = table[starts[profile] : end]
    return {**_first_of_each(base, rules, artifact), **_first_of_each(chosen, rules, artifact)}


def _first_of_each(sections: Sequence[Section], rules: StubRules, artifact: str) -> dict[str, Section]:
    found: dict[str, Section] = {}
    for section in sections:
        if section.name not in rules.sections or not section.virtual_size:
            continue
        if section.name in found and not rules.profiles:
            raise artifact_error(artifact, f"the UKI has two '{section.name}' sections")
        found.setdefault(section.name, section)
    return found
