"""UEFI device paths as text, in the spelling of the UEFI shell.

Source: UEFI 2.10, sections 10.3 (the nodes' layouts) and 10.6.1.6 (their text form). Nodes that are not spelled out
here come as ``Path(type,subtype,hex)``, which the specification provides for. A path that breaks off ends in ``?``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

MAX_NODES = 64
_END_TYPE = 0x7F
_EISA_PNP = 0x41D0
_MAX_TEXT = 4096


def device_path_text(data: bytes | memoryview) -> str:
    """The text of a packed device path; an empty string for no bytes. Never fails: unreadable parts show as ``?``."""
    view, offset = bytes(data), 0
    parts: list[str] = []
    for _ in range(MAX_NODES):
        if offset + 4 > len(view):
            return "/".join(parts) + ("" if offset == len(view) else "/?")
        kind, subtype, size = view[offset], view[offset + 1], int.from_bytes(view[offset + 2 : offset + 4], "little")
        if kind == _END_TYPE:
            return "/".join(parts)
        if size < 4 or offset + size > len(view):
            return "/".join([*parts, "?"])
        parts.append(_node_text(kind, subtype, view[offset + 4 : offset + size]))
        offset += size
    return "/".join([*parts, "?"])


def _node_text(kind: int, subtype: int, body: bytes) -> str:
    """One node; falls back to the generic form when the body is shorter than its kind demands."""
    formatter = _FORMATTERS.get((kind, subtype))
    if formatter is not None and len(body) >= formatter[0]:
        return formatter[1](body)
    return f"Path({kind},{subtype},{body[:64].hex()})"


def _number(body: bytes, offset: int, size: int) -> int:
    return int.from_bytes(body[offset : offset + size], "little")


def _guid(body: bytes, offset: int = 0) -> str:
    return str(uuid.UUID(bytes_le=body[offset : offset + 16]))


def _acpi(body: bytes) -> str:
    """PNP0A03 and PNP0A08 are PCI root bridges; other EISA ids are spelled as ACPI spells them."""
    hid, uid = _number(body, 0, 4), _number(body, 4, 4)
    if hid & 0xFFFF != _EISA_PNP:
        return f"Acpi(0x{hid:08x},0x{uid:x})"
    product = hid >> 16
    if product in {0x0A03, 0x0A08}:
        return f"{'PciRoot' if product == 0x0A03 else 'PcieRoot'}(0x{uid:x})"
    return f"Acpi(PNP{product:04X},0x{uid:x})"


def _hard_drive(body: bytes) -> str:
    """Partition number, signature type (1 MBR, 2 GPT), signature, first block and number of blocks."""
    number, extent = _number(body, 0, 4), f"0x{_number(body, 4, 8):x},0x{_number(body, 12, 8):x}"
    if body[37] == 2:
        return f"HD({number},GPT,{_guid(body, 20)},{extent})"
    return f"HD({number},{'MBR' if body[37] == 1 else 'none'},0x{_number(body, 20, 4):08x},{extent})"


def utf16_text(data: bytes) -> str:
    """UTF-16LE text up to its NUL, with anything unprintable replaced."""
    text = data[: len(data) & ~1].decode("utf-16-le", "replace").partition("\0")[0]
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:_MAX_TEXT])


# (type, subtype) -> (least size of the body, formatter); UEFI 2.10 section 10.3.
_FORMATTERS: dict[tuple[int, int], tuple[int, Callable[[bytes], str]]] = {
    (1, 1): (2, lambda b: f"Pci(0x{b[1]:x},0x{b[0]:x})"),
    (1, 3): (20, lambda b: f"MemoryMapped(0x{_number(b, 0, 4):x},0x{_number(b, 4, 8):x},0x{_number(b, 12, 8):x})"),
    (1, 4): (16, lambda b: f"VenHw({_guid(b)}{',' + b[16:80].hex() if len(b) > 16 else ''})"),
    (1, 5): (4, lambda b: f"Ctrl(0x{_number(b, 0, 4):x})"),
    (2, 1): (8, _acpi),
    (3, 1): (4, lambda b: f"Ata({b[0]},{b[1]},{_number(b, 2, 2)})"),
    (3, 2): (4, lambda b: f"Scsi(0x{_number(b, 0, 2):x},0x{_number(b, 2, 2):x})"),
    (3, 5): (2, lambda b: f"USB(0x{b[0]:x},0x{b[1]:x})"),
    (3, 10): (16, lambda b: f"VenMsg({_guid(b)})"),
    (3, 11): (33, lambda b: f"MAC({b[:6].hex()},0x{b[32]:x})"),
    (3, 12): (8, lambda b: f"IPv4({'.'.join(map(str, b[4:8]))})"),
    (3, 13): (32, lambda b: f"IPv6({b[16:32].hex()})"),
    (3, 18): (6, lambda b: f"Sata(0x{_number(b, 0, 2):x},0x{_number(b, 2, 2):x},0x{_number(b, 4, 2):x})"),
    (3, 23): (12, lambda b: f"NVMe(0x{_number(b, 0, 4):x},{b[4:12].hex('-')})"),
    (3, 24): (0, lambda b: f"Uri({b[:1024].decode('ascii', 'replace')})"),
    (4, 1): (38, _hard_drive),
    (4, 2): (20, lambda b: f"CDROM(0x{_number(b, 0, 4):x},0x{_number(b, 4, 8):x},0x{_number(b, 12, 8):x})"),
    (4, 3): (16, lambda b: f"VenMedia({_guid(b)})"),
    (4, 4): (2, utf16_text),
    (4, 6): (16, lambda b: f"FvFile({_guid(b)})"),
    (4, 7): (16, lambda b: f"Fv({_guid(b)})"),
    (4, 8): (20, lambda b: f"Offset(0x{_number(b, 4, 8):x},0x{_number(b, 12, 8):x})"),
}
