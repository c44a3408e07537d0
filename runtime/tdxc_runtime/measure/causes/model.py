"""A cause: what kind it is, what it says, and which differences it accounts for."""

from __future__ import annotations

import enum

import attrs

from tdxc_runtime.measure.differences import Subject


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
