"""What an event says about itself: the data of the known event types, parsed into types.

The data explains; it proves nothing unless the digest is the hash of it (see :mod:`.consistency`). Parsing never fails:
data that does not fit its type comes out as :class:`Opaque`.

Sources: TCG PC Client Platform Firmware Profile 1.06, section 10.4 (``UEFI_VARIABLE_DATA``, ``UEFI_IMAGE_LOAD_EVENT``,
``UEFI_GPT_DATA``, ``UEFI_PLATFORM_FIRMWARE_BLOB``, handoff tables, ``TCG_PCClientTaggedEvent``); UEFI 2.10, sections
3.1.3 (load options) and 5.3 (GPT).
"""

from __future__ import annotations

import codecs
import uuid
from collections.abc import Callable
from typing import TypeAlias

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.measure.cursor import Cursor
from tdxc_runtime.measure.events import EventType
from tdxc_runtime.measure.logs.device_path import device_path_text, utf16_text

GPT_HEADER_SIZE = 92
GPT_ENTRY_SIZE = 128
_MAX_TEXT = 4096


@attrs.frozen(kw_only=True)
class Opaque:
    """Data of unknown or broken structure."""

    data: bytes

    def __str__(self) -> str:
        return f"{len(self.data)} bytes" + (f" {self.data[:32].hex()}" if self.data else "")


@attrs.frozen(kw_only=True)
class Text:
    """A message in ASCII or UTF-16."""

    text: str

    def __str__(self) -> str:
        return f'"{self.text}"'


@attrs.frozen(kw_only=True)
class SeparatorData:
    """The four bytes of a separator: 0 or 0xffffffff in a good boot, 1 after an error."""

    value: int

    def __str__(self) -> str:
        return "an error in the firmware" if self.value == 1 else f"value {self.value:#x}"


@attrs.frozen(kw_only=True)
class LoadOption:
    """A ``Boot####`` variable: attributes, what the boot menu calls it, and its device path as text."""

    attributes: int
    title: str
    path: str

    def __str__(self) -> str:
        return f'"{self.title}" {self.path} (attributes {self.attributes:#x})'


@attrs.frozen(kw_only=True)
class VariableData:
    """A UEFI variable; ``option`` is set for ``Boot####``, ``order`` for ``BootOrder``."""

    vendor: str
    name: str
    data: bytes
    option: LoadOption | None = None
    order: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.option is not None:
            return f"{self.name} = {self.option}"
        if self.order:
            return f"{self.name} = {', '.join(f'{n:04X}' for n in self.order)}"
        shown = self.data.hex() if len(self.data) <= 16 else f"{len(self.data)} bytes"
        return f"{self.name} = {shown or 'not set'}"


@attrs.frozen(kw_only=True)
class ImageLoadData:
    """An image that the firmware loaded; addresses and lengths in bytes, as guest physical memory has them."""

    address: int
    length: int
    path: str

    def __str__(self) -> str:
        return f"{self.path or 'an image without a path'} ({self.length} bytes)"


@attrs.frozen(kw_only=True)
class PartitionEntry:
    """One GPT entry: type and own GUID, first and last block (inclusive), name."""

    type_guid: str
    guid: str
    first_lba: int
    last_lba: int
    name: str


@attrs.frozen(kw_only=True)
class GptData:
    """The partition table as measured: header (LBA 1) and the used entries."""

    disk_guid: str
    last_usable_lba: int
    backup_lba: int
    partitions: tuple[PartitionEntry, ...]

    def __str__(self) -> str:
        names = ", ".join(p.name or p.type_guid for p in self.partitions)
        return f"disk {self.disk_guid}, backup header at block {self.backup_lba}, partitions: {names or 'none'}"


@attrs.frozen(kw_only=True)
class TaggedData:
    """An EV_EVENT_TAG: a number that says who measured, and that party's data (for Linux and systemd: a text)."""

    tag: int
    data: bytes

    def __str__(self) -> str:
        return f"tag {self.tag:#010x} {_text_of(self.data) or Opaque(data=self.data)}"


@attrs.frozen(kw_only=True)
class BlobData:
    """A part of the firmware, or tables handed over: a name where there is one, address and length."""

    name: str
    address: int
    length: int

    def __str__(self) -> str:
        return f"{self.name or 'blob'} at {self.address:#x} ({self.length} bytes)"


@attrs.frozen(kw_only=True)
class TablesData:
    """Configuration tables handed over: name where there is one, and the tables' GUIDs."""

    name: str
    guids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name or 'tables'} {', '.join(self.guids)}"


EventData: TypeAlias = (
    Opaque | Text | SeparatorData | VariableData | ImageLoadData | GptData | TaggedData | BlobData | TablesData
)


def parse_event_data(event_type: int, data: bytes) -> EventData:
    """The data of an event of that type, typed as far as it can be read."""
    parser = _PARSERS.get(event_type)
    if parser is None:
        return _parse_text(data)
    try:
        return parser(data)
    except (DiagnosticError, ValueError):
        return Opaque(data=data)


def parse_load_option(data: bytes) -> LoadOption:
    """An ``EFI_LOAD_OPTION``; a diagnostic error when it is too short."""
    cursor = _cursor(data)
    attributes, path_size = cursor.u32("the attributes"), cursor.u16("the path's length")
    end = 6
    while data[end : end + 2] not in {b"", b"\0\0"} and end + 2 <= len(data):
        end += 2
    cursor.take(end + 2 - 6, "the description")
    path = cursor.take(path_size, "the device path")
    return LoadOption(attributes=attributes, title=utf16_text(data[6:end]), path=device_path_text(path))


def _cursor(data: bytes) -> Cursor:
    return Cursor(data, name="event data", code=Code.E_EVENTLOG)


def _text_of(data: bytes) -> str:
    """The text that the data is, in UTF-8 or UTF-16, without a final NUL; empty when it is none, mostly in ASCII."""
    for encoding in ("utf-8", "utf-16-le"):
        try:
            decoder = codecs.getincrementaldecoder(encoding)()
            text = decoder.decode(data[:_MAX_TEXT], final=len(data) <= _MAX_TEXT).rstrip("\0")
        except UnicodeDecodeError:
            continue
        is_plain = 2 * sum(map(str.isascii, text)) > len(text)  # any two bytes are some character of UTF-16
        if is_plain and all(char.isprintable() or char in "\t\n" for char in text):
            return text
    return ""


def _parse_text(data: bytes) -> EventData:
    text = _text_of(data)
    return Text(text=text) if text else Opaque(data=data)


def _parse_separator(data: bytes) -> EventData:
    if len(data) != 4:
        raise ValueError("a separator has four bytes")
    return SeparatorData(value=int.from_bytes(data, "little"))


def _parse_variable(data: bytes) -> EventData:
    cursor = _cursor(data)
    vendor = str(uuid.UUID(bytes_le=bytes(cursor.take(16, "the vendor GUID"))))
    name_length, data_length = cursor.u64("the name's length"), cursor.u64("the data's length")
    if name_length > len(data):
        raise ValueError("the name is longer than the event")
    name = utf16_text(bytes(cursor.take(2 * name_length, "the name")))
    value = bytes(cursor.take(data_length, "the data"))
    variable = VariableData(vendor=vendor, name=name, data=value)
    if name == "BootOrder" and len(value) <= 512 and not len(value) % 2:
        return attrs.evolve(
            variable, order=tuple(int.from_bytes(value[i : i + 2], "little") for i in range(0, len(value), 2))
        )
    if name.startswith("Boot") and len(name) == 8:
        try:
            return attrs.evolve(variable, option=parse_load_option(value))
        except DiagnosticError:
            return variable
    return variable


def _parse_image(data: bytes) -> EventData:
    cursor = _cursor(data)
    address, length = cursor.u64("the address"), cursor.u64("the length")
    cursor.u64("the link time address")
    path = cursor.take(cursor.u64("the path's length"), "the device path")
    return ImageLoadData(address=address, length=length, path=device_path_text(path))


def _parse_gpt(data: bytes) -> EventData:
    cursor = _cursor(data)
    header = bytes(cursor.take(GPT_HEADER_SIZE, "the GPT header"))
    if header[:8] != b"EFI PART":
        raise ValueError("no GPT header")
    count = cursor.u64("the number of partitions")
    if count > cursor.remaining // GPT_ENTRY_SIZE:
        raise ValueError("more partitions than bytes")
    partitions = tuple(_parse_partition(bytes(cursor.take(GPT_ENTRY_SIZE, "an entry"))) for _ in range(count))
    return GptData(
        disk_guid=str(uuid.UUID(bytes_le=header[56:72])),
        last_usable_lba=int.from_bytes(header[48:56], "little"),
        backup_lba=int.from_bytes(header[32:40], "little"),
        partitions=partitions,
    )


def _parse_partition(entry: bytes) -> PartitionEntry:
    return PartitionEntry(
        type_guid=str(uuid.UUID(bytes_le=entry[:16])),
        guid=str(uuid.UUID(bytes_le=entry[16:32])),
        first_lba=int.from_bytes(entry[32:40], "little"),
        last_lba=int.from_bytes(entry[40:48], "little"),
        name=utf16_text(entry[56:128]),
    )


def _parse_tagged(data: bytes) -> EventData:
    cursor = _cursor(data)
    tag, size = cursor.u32("the tag"), cursor.u32("the size")
    return TaggedData(tag=tag, data=bytes(cursor.take(size, "the tagged data")))


def _parse_blob(data: bytes) -> EventData:
    cursor = _cursor(data)
    address, length = cursor.u64("the address"), cursor.u64("the length")
    if cursor.remaining:
        raise ValueError("more than a blob")
    return BlobData(name="", address=address, length=length)


def _parse_blob2(data: bytes) -> EventData:
    cursor = _cursor(data)
    name = _text_of(bytes(cursor.take(cursor.u8("the name's length"), "the name")))
    return BlobData(name=name, address=cursor.u64("the address"), length=cursor.u64("the length"))


def _parse_tables(data: bytes) -> EventData:
    return _read_tables(_cursor(data), "")


def _parse_tables2(data: bytes) -> EventData:
    cursor = _cursor(data)
    return _read_tables(cursor, _text_of(bytes(cursor.take(cursor.u8("the name's length"), "the name"))))


def _read_tables(cursor: Cursor, name: str) -> TablesData:
    count = cursor.u64("the number of tables")
    if count > cursor.remaining // 24:
        raise ValueError("more tables than bytes")
    guids = []
    for _ in range(count):
        guids.append(str(uuid.UUID(bytes_le=bytes(cursor.take(16, "a table's GUID")))))
        cursor.u64("a table's address")
    return TablesData(name=name, guids=tuple(guids))


_PARSERS: dict[int, Callable[[bytes], EventData]] = {
    EventType.EV_SEPARATOR: _parse_separator,
    EventType.EV_EVENT_TAG: _parse_tagged,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: _parse_variable,
    EventType.EV_EFI_VARIABLE_BOOT: _parse_variable,
    EventType.EV_EFI_VARIABLE_BOOT2: _parse_variable,
    EventType.EV_EFI_VARIABLE_AUTHORITY: _parse_variable,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: _parse_image,
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: _parse_image,
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: _parse_image,
    EventType.EV_EFI_GPT_EVENT: _parse_gpt,
    EventType.EV_EFI_GPT_EVENT2: _parse_gpt,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: _parse_blob,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _parse_blob2,
    EventType.EV_EFI_HANDOFF_TABLES: _parse_tables,
    EventType.EV_EFI_HANDOFF_TABLES2: _parse_tables2,
}
