"""Files, directories and links come into mkosi.extra, and rules for what git cannot keep."""

from __future__ import annotations

from typing import Any

import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Blob, CompiledImage, Directory, File, Partition, Symlink
from tdxc.tree import FileTree, TreeFile, TreeLink
from tdxc_emitters import emit_image


def emitted(**changes: Any) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=resolved_image(**changes)))


def file(path: str, **fields: Any) -> File:
    return File(span=SPAN, path=path, content=Blob.of(b"x"), **fields)


def test_merged_directories_are_resolved() -> None:
    tree = emitted(files=(file("/bin/tool", mode=0o755), file("/lib/x", mode=0o600)))
    entry = tree["mkosi.extra/usr/bin/tool"]
    assert isinstance(entry, TreeFile)
    assert entry.executable
    assert tree.text("rules/modes").splitlines()[1:] == ["0600 /usr/lib/x"]


def test_one_destination_by_two_names_is_a_clash() -> None:
    other = File(span=SPAN, path="/usr/bin/tool", content=Blob.of(b"y"))
    with pytest.raises(DiagnosticError) as caught:
        emitted(files=(file("/bin/tool"), other))
    assert caught.value.diagnostics[0].code is Code.E_CONFLICT
    assert caught.value.diagnostics[0].notes[0].span == SPAN


@pytest.mark.parametrize("name", ["two words", "a:b", ""])
def test_owner_that_no_account_can_have_is_refused(name: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted(files=(file("/etc/x", owner=name),))
    assert caught.value.diagnostics[0].code is Code.E_VALUE


def test_owners_and_empty_directories_are_rules() -> None:
    tree = emitted(
        files=(file("/etc/key", mode=0o640, owner="app", group="tdx"),),
        directories=(Directory(span=SPAN, path="/srv/a b", mode=0o1770, owner="app", group="app"),),
    )
    assert tree.text("rules/owners").splitlines()[1:] == ["app tdx /etc/key", "app app /srv/a b"]
    assert tree.text("rules/directories").splitlines()[1:] == ["1770 /srv/a b"]
    assert "scripts/10-finalize-owners.sh" in tree


def test_nothing_special_needs_no_owner_script() -> None:
    tree = emitted(files=(file("/etc/plain"),))
    assert "scripts/10-finalize-owners.sh" not in tree
    assert not [path for path in tree if path.startswith("rules/")]


def test_links_keep_their_target() -> None:
    tree = emitted(symlinks=(Symlink(span=SPAN, path="/etc/localtime", target="../usr/share/zoneinfo/UTC"),))
    assert tree["mkosi.extra/etc/localtime"] == TreeLink(target="../usr/share/zoneinfo/UTC")


def test_root_of_an_initramfs_is_closed() -> None:
    assert "z / 0755 root root" in emitted().text("mkosi.extra/usr/lib/tmpfiles.d/00-root.conf")


def test_own_init_is_started_by_the_kernel() -> None:
    tree = emitted(init="/usr/bin/tini")
    assert tree["mkosi.extra/init"] == TreeLink(target="/usr/bin/tini")
    assert "mkosi.extra/usr/lib/tmpfiles.d/00-root.conf" not in tree


def test_partitions_need_systemd() -> None:
    root = Partition(span=SPAN, mount_point="/", fs="ext4", size_bytes=1 << 30)
    with pytest.raises(DiagnosticError) as caught:
        emitted(init="busybox", partitions=(root,))
    assert caught.value.diagnostics[0].code is Code.E_UNSUPPORTED


@pytest.mark.parametrize("path", ["/run/x", "/tmp/x", "/proc/sys", "/dev/x", "/sys", "/bin", "/etc/a\nb"])
def test_paths_that_an_image_cannot_carry_are_refused(path: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted(files=(file(path),))
    assert caught.value.diagnostics[0].code is Code.E_EMIT
    assert caught.value.diagnostics[0].span == SPAN


@pytest.mark.parametrize(
    "changes",
    [
        {"files": (file("/srv/a"), file("/srv/a/b"))},
        {"files": (file("/srv/link/b"),), "symlinks": (Symlink(span=SPAN, path="/srv/link", target="/data"),)},
        {"files": (file("/srv/a"),), "directories": (Directory(span=SPAN, path="/srv/a"),)},
    ],
    ids=["below a file", "below a link", "file and directory"],
)
def test_what_lies_below_a_file_or_link_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted(**changes)
    assert caught.value.diagnostics[0].code is Code.E_EMIT
