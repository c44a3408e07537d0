"""Partitions of a disk image: definitions for systemd-repart, with identifiers that two builds share.

Sources: repart.d(5); mkosi(1), ``RepartDirectories=``. The GPT is measured with all its identifiers (TCG PC Client
Platform Firmware Profile, EV_EFI_GPT_EVENT), so each partition has a UUID derived from the image's seed and its mount
point, and a definite size. A dm-verity pair is the exception: its UUIDs are halves of the root hash (Discoverable
Partitions Specification).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from tdxc.diagnostics import Code, DiagnosticError, Note
from tdxc.ir import KernelArgument, Partition, ResolvedImage
from tdxc.tree import Entry, FileTree, Origin, TreeFile

from tdxc_emitters.mkosi.project import origin_of

REPART = "mkosi.repart"
_ESP_BYTES = 512 << 20
_FILESYSTEMS = ("ext4", "xfs", "btrfs", "vfat", "erofs", "squashfs", "f2fs")
"""What repart's ``Format=`` makes, without swap."""


def partition_files(image: ResolvedImage) -> FileTree:
    """``mkosi.repart/NN-NAME.conf``; empty for an image without partitions.

    Raises E_UNSUPPORTED for partitions without one for ``/``, and for a file system that repart cannot make.
    """
    return FileTree(dict(_files(image)))


def command_line(image: ResolvedImage) -> tuple[KernelArgument, ...]:
    """The kernel's command line with the root partition named; it starts with the root hash where that is known late.

    mkosi puts ``roothash=`` in front when it builds, for a root partition with verity.
    """
    root = next((partition for partition in image.partitions if partition.mount_point == "/"), None)
    words = image.kernel.cmdline
    if root is None or root.verity or any(word.text.startswith("root=") for word in words):
        return words
    text = f"root=PARTUUID={partition_uuid(image, root)}"
    return (*words, KernelArgument(span=root.span, cause="the root partition of the image", text=text))


def partition_uuid(image: ResolvedImage, partition: Partition) -> uuid.UUID:
    """The partition's GPT identifier: UUIDv5 of the mount point in the namespace of the image's seed."""
    return _identifier(image, partition.mount_point)


def mkfs_options(image: ResolvedImage) -> tuple[tuple[str, str], ...]:
    """Environment variables that give systemd-repart further options for mkfs (systemd's ENVIRONMENT.md).

    mke2fs takes the last ``-E`` alone, so repart's own are said again before the seed.
    """
    if not any(partition.fs == "ext4" for partition in image.partitions):
        return ()
    seed = _identifier(image, "directory hash of ext4")
    return (("SYSTEMD_REPART_MKFS_OPTIONS_EXT4", f"-E nodiscard,lazy_itable_init=1,hash_seed={seed}"),)


def _identifier(image: ResolvedImage, name: str) -> uuid.UUID:
    seed = image.reproducibility.seed
    namespace = uuid.UUID(seed) if seed else uuid.uuid5(uuid.NAMESPACE_URL, f"tdxvm:{image.name}")
    return uuid.uuid5(namespace, f"partition {name}")


def _files(image: ResolvedImage) -> Iterator[tuple[str, Entry]]:
    if not image.partitions:
        return
    _check(image)
    origin = Origin(span=image.partitions[0].span, cause="a disk needs a partition for the firmware")
    esp = {
        "Type": "esp",
        "Format": "vfat",
        "UUID": str(_identifier(image, "esp")),
        "CopyFiles": ("/boot:/", "/efi:/"),
        **_sizes(_ESP_BYTES),
    }
    yield f"{REPART}/00-esp.conf", _definition(esp, origin)
    for index, partition in enumerate(image.partitions, start=1):
        yield from _partition(image, partition, index * 10)


def _check(image: ResolvedImage) -> None:
    if not any(partition.mount_point == "/" for partition in image.partitions):
        raise DiagnosticError.of(
            Code.E_UNSUPPORTED,
            "the image declares partitions, but none for '/'",
            image.partitions[0].span,
            notes=(Note(message="without partitions the whole image is in memory; a mix of both cannot be built"),),
            fix="declare a partition for '/', or mount data partitions at boot with a mount unit",
        )
    for partition in image.partitions:
        if partition.fs not in _FILESYSTEMS:
            raise DiagnosticError.of(
                Code.E_UNSUPPORTED,
                f"no file system '{partition.fs}' can be made for '{partition.mount_point}'",
                partition.span,
                fix=f"choose from {', '.join(_FILESYSTEMS)}",
            )
        if partition.verity and partition.mount_point != "/":
            raise DiagnosticError.of(
                Code.E_UNSUPPORTED,
                f"only the root partition can be protected by verity, not '{partition.mount_point}'",
                partition.span,
            )


def _partition(image: ResolvedImage, partition: Partition, rank: int) -> Iterator[tuple[str, Entry]]:
    is_root = partition.mount_point == "/"
    name = partition.label or partition.mount_point.strip("/").replace("/", "-") or "root"
    fields: dict[str, str | tuple[str, ...]] = {
        "Type": "root" if is_root else "linux-generic",
        "Label": _value(name, partition),
        "Format": partition.fs,
        "CopyFiles": _value(f"{partition.mount_point}:/" if not is_root else "/", partition),
    }
    inner = tuple(p.mount_point for p in image.partitions if p is not partition and _lies_in(p, partition))
    if inner:
        fields["ExcludeFilesTarget"] = tuple(_value(_inside(path, partition) + "/", partition) for path in inner)
    if partition.verity:
        fields |= {"Verity": "data", "VerityMatchKey": "root"}
    else:
        fields["UUID"] = str(partition_uuid(image, partition))
    yield (
        f"{REPART}/{rank:02}-{_slug(name)}.conf",
        _definition(fields | _sizes(partition.size_bytes), origin_of(partition)),
    )
    if partition.verity:
        hashes = {"Type": "root-verity", "Label": _value(f"{name}-verity", partition), "Verity": "hash"}
        hashes |= {"VerityMatchKey": "root", "Minimize": "best"}
        yield f"{REPART}/{rank + 1:02}-{_slug(name)}-verity.conf", _definition(hashes, origin_of(partition))


def _lies_in(inner: Partition, outer: Partition) -> bool:
    return inner.mount_point.startswith(outer.mount_point.rstrip("/") + "/")


def _inside(path: str, outer: Partition) -> str:
    return "/" + path.removeprefix(outer.mount_point).lstrip("/")


def _sizes(size_bytes: int) -> dict[str, str | tuple[str, ...]]:
    return {"SizeMinBytes": str(size_bytes), "SizeMaxBytes": str(size_bytes)}


def _definition(fields: Mapping[str, str | tuple[str, ...]], origin: Origin) -> TreeFile:
    lines = ["# Partition of the image, compiled by tdxc.", "[Partition]"]
    for key, value in fields.items():
        lines += [f"{key}={text}" for text in ((value,) if isinstance(value, str) else value)]
    return TreeFile.text("\n".join(lines) + "\n", origin=origin)


def _value(text: str, partition: Partition) -> str:
    """repart splits at colons and blanks and expands ``%``; nothing in a mount point or label may need quoting."""
    if any(ch in "%\\\"'# \t\n" or ord(ch) < 32 for ch in text) or text.count(":") > 1:
        raise DiagnosticError.of(
            Code.E_EMIT, f"{text!r} cannot stand in a partition's definition", partition.span, fix="use a plain name"
        )
    return text


def _slug(name: str) -> str:
    return "".join(ch if ch.isalnum() and ch.isascii() else "-" for ch in name.lower()).strip("-") or "data"
