"""Sections of an image that share memory: what a program then finds in one of them is not what the file holds there.

Source: edk2 ``MdePkg/Library/BasePeCoffLib/BasePeCoff.c`` (``PeCoffLoaderLoadImage``): the headers are copied first,
then each section in the order of the table with the zeros behind it, whatever lies there already; relocation then
changes the copy of the headers.
"""

from __future__ import annotations

import attrs

from .image import PeImage, Section


@attrs.frozen
class Overlap:
    """Two sections that share memory, in the order in which they are loaded: the later one's bytes are there."""

    earlier: Section
    later: Section


def overlaps(image: PeImage) -> tuple[Overlap, ...]:
    """All pairs of sections that share memory."""
    sections = image.sections
    return tuple(
        Overlap(earlier, later)
        for index, earlier in enumerate(sections)
        for later in sections[index + 1 :]
        if _share_memory(earlier, later)
    )


def spoiler(image: PeImage, section: Section) -> str | None:
    """What is or may be in memory in place of some of the bytes of ``section``; ``None`` when they are as in the file.

    That is a section that is loaded later, an earlier one that the program may write to, or the headers.
    """
    if section.virtual_address < image.headers_size:
        return "the headers"
    is_later = False
    for other in image.sections:
        if other is section:
            is_later = True
        elif (is_later or other.writable) and _share_memory(section, other):
            return f"section '{other.name}'"
    return None


def _share_memory(one: Section, other: Section) -> bool:
    start = max(one.virtual_address, other.virtual_address)
    return start < min(one.virtual_address + one.memory_size, other.virtual_address + other.memory_size)
