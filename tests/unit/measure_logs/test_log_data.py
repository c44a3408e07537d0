import uuid

import pytest
from support.event_logs import logged
from tdxc_runtime.measure.events import RTMR0, RTMR1, RTMR2, EventType
from tdxc_runtime.measure.logs import describe, device_path_text, inconsistencies, is_checkable, parse_event_data
from tdxc_runtime.measure.logs.data import (
    BlobData,
    GptData,
    ImageLoadData,
    Opaque,
    SeparatorData,
    TablesData,
    TaggedData,
    Text,
    VariableData,
)

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
END = b"\x7f\xff\x04\0"


def node(kind: int, subtype: int, body: bytes) -> bytes:
    return bytes((kind, subtype)) + (4 + len(body)).to_bytes(2, "little") + body


def u(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def variable(name: str, data: bytes) -> bytes:
    return GLOBAL.bytes_le + u(len(name), 8) + u(len(data), 8) + name.encode("utf-16-le") + data


def load_option(title: str, path: bytes) -> bytes:
    return u(0x109, 4) + u(len(path), 2) + title.encode("utf-16-le") + b"\0\0" + path


GUID = uuid.UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
DISK = node(4, 1, u(1, 4) + u(0x800, 8) + u(0x14000, 8) + GUID.bytes_le + b"\x02\x02")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"", ""),
        (END, ""),
        (node(2, 1, u(0x0A0341D0, 4) + u(0, 4)) + node(1, 1, b"\x02\x01") + END, "PciRoot(0x0)/Pci(0x1,0x2)"),
        (node(2, 1, u(0x0A0841D0, 4) + u(1, 4)) + END, "PcieRoot(0x1)"),
        (node(2, 1, u(0x050141D0, 4) + u(1, 4)) + END, "Acpi(PNP0501,0x1)"),
        (node(2, 1, u(7, 4) + u(1, 4)) + END, "Acpi(0x00000007,0x1)"),
        (DISK + END, f"HD(1,GPT,{GUID},0x800,0x14000)"),
        (node(4, 1, bytes(37) + b"\x01") + END, "HD(0,MBR,0x00000000,0x0,0x0)"),
        (node(4, 4, "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le")) + END, "\\EFI\\BOOT\\BOOTX64.EFI"),
        (node(4, 7, GUID.bytes_le) + node(4, 6, GUID.bytes_le) + END, f"Fv({GUID})/FvFile({GUID})"),
        (node(3, 2, u(1, 2) + u(2, 2)) + END, "Scsi(0x1,0x2)"),
        (node(3, 23, u(1, 4) + bytes(range(8))) + END, "NVMe(0x1,00-01-02-03-04-05-06-07)"),
        (node(1, 3, u(1, 4) + u(0x1000, 8) + u(0x1FFF, 8)) + END, "MemoryMapped(0x1,0x1000,0x1fff)"),
        (node(9, 9, b"\xab") + END, "Path(9,9,ab)"),
        (node(4, 7, b"short") + END, "Path(4,7,73686f7274)"),
        (node(1, 1, b"\0\0"), "Pci(0x0,0x0)"),
        (node(1, 1, b"\0\0") + b"\x01", "Pci(0x0,0x0)/?"),
        (b"\x01\x01\xff\xff", "?"),
        (b"\x01\x01\x00\x00", "?"),
        (node(1, 1, b"\0\0") * 200, "/".join(["Pci(0x0,0x0)"] * 64) + "/?"),
    ],
)
def test_device_paths_read_as_the_shell_prints_them(path: bytes, text: str) -> None:
    assert device_path_text(path) == text


def test_a_boot_option_is_read_down_to_its_path() -> None:
    path = node(4, 7, GUID.bytes_le) + END
    data = parse_event_data(EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0000", load_option("UiApp", path)))
    assert isinstance(data, VariableData)
    assert data.option is not None
    assert (data.option.title, data.option.path, data.option.attributes) == ("UiApp", f"Fv({GUID})", 0x109)


def test_a_broken_boot_option_is_still_a_variable() -> None:
    data = parse_event_data(EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0000", b"\x01"))
    assert isinstance(data, VariableData)
    assert data.option is None


def test_the_boot_order_is_a_list_of_numbers() -> None:
    data = parse_event_data(EventType.EV_EFI_VARIABLE_BOOT, variable("BootOrder", u(1, 2) + u(0x1A, 2)))
    assert str(data) == "BootOrder = 0001, 001A"


def test_an_empty_variable_is_not_set() -> None:
    data = parse_event_data(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b""))
    assert str(data) == "PK = not set"


def test_a_loaded_image_has_its_path_and_size() -> None:
    path = DISK + END
    data = parse_event_data(
        EventType.EV_EFI_BOOT_SERVICES_APPLICATION, u(0x1000, 8) + u(99328, 8) + u(0, 8) + u(len(path), 8) + path
    )
    assert data == ImageLoadData(address=0x1000, length=99328, path=f"HD(1,GPT,{GUID},0x800,0x14000)")


def test_a_partition_table_lists_its_partitions() -> None:
    header = b"EFI PART" + bytes(24) + u(90111, 8) + bytes(8) + u(90078, 8) + GLOBAL.bytes_le + bytes(20)
    entry = (
        GUID.bytes_le
        + GLOBAL.bytes_le
        + u(2048, 8)
        + u(4095, 8)
        + bytes(8)
        + "esp".encode("utf-16-le").ljust(72, b"\0")
    )
    data = parse_event_data(EventType.EV_EFI_GPT_EVENT, header + u(1, 8) + entry)
    assert isinstance(data, GptData)
    assert (data.disk_guid, data.backup_lba, data.last_usable_lba) == (str(GLOBAL), 90111, 90078)
    assert [(p.name, p.first_lba, p.last_lba) for p in data.partitions] == [("esp", 2048, 4095)]


@pytest.mark.parametrize("count", [2, 2**63, 2**64 - 1])
def test_more_partitions_than_bytes_are_no_partition_table(count: int) -> None:
    data = b"EFI PART" + bytes(84) + u(count, 8) + bytes(128)
    assert isinstance(parse_event_data(EventType.EV_EFI_GPT_EVENT, data), Opaque)


@pytest.mark.parametrize(
    ("event_type", "data", "expected"),
    [
        (EventType.EV_SEPARATOR, bytes(4), SeparatorData(value=0)),
        (EventType.EV_SEPARATOR, bytes(5), Opaque(data=bytes(5))),
        (EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation", Text(text="Exit Boot Services Invocation")),
        (EventType.EV_IPL, ".linux\0".encode("utf-16-le"), Text(text=".linux")),
        (EventType.EV_IPL, b"\xff\xfe\x00\xd8", Opaque(data=b"\xff\xfe\x00\xd8")),
        (EventType.EV_EVENT_TAG, u(0x8F3B22EC, 4) + u(2, 4) + b"ab", TaggedData(tag=0x8F3B22EC, data=b"ab")),
        (EventType.EV_EVENT_TAG, u(1, 4) + u(3, 4) + b"ab", Opaque(data=u(1, 4) + u(3, 4) + b"ab")),
        (
            EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
            b"\x03BFV" + u(0xFFC00000, 8) + u(0x84000, 8),
            BlobData(name="BFV", address=0xFFC00000, length=0x84000),
        ),
        (
            EventType.EV_EFI_HANDOFF_TABLES2,
            b"\x09TdxTable\0" + u(1, 8) + GUID.bytes_le + u(0x809000, 8),
            TablesData(name="TdxTable", guids=(str(GUID),)),
        ),
        (EventType.EV_EFI_HANDOFF_TABLES, u(2**60, 8), Opaque(data=u(2**60, 8))),
        (0x12345678, b"\x01\x02", Opaque(data=b"\x01\x02")),
    ],
)
def test_event_data_by_type(event_type: int, data: bytes, expected: object) -> None:
    assert parse_event_data(event_type, data) == expected


def test_kernel_events_are_named_in_words() -> None:
    options = u(0x8F3B22ED, 4) + u(8, 4) + b"LOADED\0\0"
    assert "command line" in describe(logged(RTMR2, EventType.EV_EVENT_TAG, options))
    assert "separator" in describe(logged(RTMR0, EventType.EV_SEPARATOR, bytes(4)))
    assert describe(logged(RTMR0, 0x777, b"")).startswith("event: ")


def test_a_digest_that_is_not_of_its_data_is_found() -> None:
    good = logged(RTMR1, EventType.EV_EFI_ACTION, b"Exit")
    bad = logged(RTMR1, EventType.EV_EFI_ACTION, b"Exit", measured=b"Enter")
    image = logged(RTMR1, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"", measured=b"pe")
    assert [item.event for item in inconsistencies([good, bad, image])] == [bad]
    assert not is_checkable(image)


def test_a_boot_variable_may_be_hashed_by_its_value_alone() -> None:
    data = variable("BootOrder", b"\0\0")
    by_value = logged(RTMR0, EventType.EV_EFI_VARIABLE_BOOT, data, measured=b"\0\0")
    whole = logged(RTMR0, EventType.EV_EFI_VARIABLE_BOOT, data)
    neither = logged(RTMR0, EventType.EV_EFI_VARIABLE_BOOT, data, measured=b"\x01\0")
    assert [item.event for item in inconsistencies([by_value, whole, neither])] == [neither]
