"""Backends: what they refuse, how they publish, and the exact command lines of Nix and Lima."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import attrs
import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.backends import (
    ArtifactKind,
    BakeRequest,
    LimaBackend,
    LocalBackend,
    NixBackend,
    backend_for,
    target_kind,
    tool_versions,
)
from tdxc_runtime.backends.base import RECORD_NAME, artifact_kind, collect_artifacts, record_text
from tdxc_runtime.backends.engine import check_output, check_tree, publish
from tdxc_runtime.backends.lima import LimaMkosi, copy_argv, gibibytes, instance_status, shell_argv
from tdxc_runtime.backends.mkosi_tool import INSIDE, BakeFolders, HostMkosi, version_tuple
from tdxc_runtime.backends.nix import SHELL_FOLDER, develop_argv, version_in
from tdxc_runtime.backends.package_sources import SOURCES_PATH, cached_suites, read_summary, write_sandbox_tree
from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot.apt_sources import MIRROR_VARIABLE, os_release

FOLDERS = BakeFolders(tree=Path("/t r"), scratch=Path("/s"), packages=Path("/c/packages"), build=Path("/c/build"))


def _code(raised: pytest.ExceptionInfo[DiagnosticError]) -> Code:
    return raised.value.diagnostics[0].code


def _summary(**changes: object) -> bytes:
    image = {
        "Distribution": "debian",
        "Release": "trixie",
        "Repositories": [],
        "Mirror": None,
        "LocalMirror": None,
        "Seed": "84ecb3f1-a580-4caf-aa8b-ea8375cbb856",
        "SandboxTrees": [],
        **changes,
    }
    return json.dumps({"Images": [{"an": "initrd"}, image]}).encode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.efi", ArtifactKind.UKI),
        ("a.b.vmlinuz", ArtifactKind.KERNEL),
        ("a.initrd", ArtifactKind.INITRD),
        ("a.qcow2", ArtifactKind.DISK_QCOW2),
        ("a.vhd", ArtifactKind.DISK_VHD),
        ("a.raw", ArtifactKind.DISK_RAW),
        ("a.tar.gz", ArtifactKind.ARCHIVE),
        ("a.manifest", ArtifactKind.PACKAGE_MANIFEST),
        ("efi", ArtifactKind.OTHER),
    ],
)
def test_kinds_go_by_name(name: str, kind: ArtifactKind) -> None:
    assert artifact_kind(name) is kind


def test_a_tool_of_the_host_sees_our_folders_over_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDXVM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "apt").mkdir()
    (tmp_path / "apt/ours").write_text("ours")
    binds = [
        Bind(source=tmp_path / "apt", target=Path("/etc/apt")),
        Bind(source=tmp_path / "apt", target=Path("/tdxvm/apt"), writable=True),
    ]
    argv = ["sh", "-c", "ls /etc/apt; cat /tdxvm/apt/ours; touch /tdxvm/apt/new; touch /etc/apt/refused"]
    completed = HostMkosi(version="25.3").run_beside(argv, binds)
    assert completed is not None
    assert (completed.status, completed.stdout) == (1, b"ours\nours")
    assert sorted(path.name for path in (tmp_path / "apt").iterdir()) == ["new", "ours"]
    assert HostMkosi(version="25.3", prefix=("nix", "develop")).run_beside(argv, binds) is None
    assert LimaMkosi(instance="tdxvm", version="25.3").run_beside(argv, binds) is None


def test_targets_have_kinds_and_others_are_refused() -> None:
    assert [target_kind(name) for name in ("qemu", "azure", "gcp")] == [
        ArtifactKind.DISK_QCOW2,
        ArtifactKind.DISK_VHD,
        ArtifactKind.ARCHIVE,
    ]
    with pytest.raises(DiagnosticError) as raised:
        target_kind("aws")
    assert _code(raised) is Code.E_DEPLOYMENT


def test_artifacts_are_files_with_their_digests_and_links_are_not(tmp_path: Path) -> None:
    (tmp_path / "x.efi").write_bytes(b"abc")
    (tmp_path / "x").symlink_to("x.efi")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/y").write_bytes(b"")
    (tmp_path / RECORD_NAME).write_bytes(b"earlier")
    sub, uki = collect_artifacts(tmp_path)
    assert (uki.path.name, uki.size_bytes, uki.kind) == ("x.efi", 3, ArtifactKind.UKI)
    assert uki.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sub.sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    record = record_text((sub, uki), tmp_path, mkosi_version="25.3", tools="x", mirror="")
    assert [entry["path"] for entry in json.loads(record)["artifacts"]] == ["sub/y", "x.efi"]
    assert str(tmp_path) not in record


def test_a_tree_has_a_mkosi_conf(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as raised:
        check_tree(tmp_path)
    assert _code(raised) is Code.E_BACKEND_EXECUTION
    (tmp_path / "mkosi.conf").touch()
    check_tree(tmp_path)


def test_only_our_own_or_empty_or_absent_outputs_are_replaced(tmp_path: Path) -> None:
    check_output(tmp_path / "absent")
    check_output(tmp_path)
    (tmp_path / "precious").touch()
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to("nowhere")
    for path in (tmp_path, file, link):
        with pytest.raises(DiagnosticError) as raised:
            check_output(path)
        assert _code(raised) is Code.E_OUTPUT
    (tmp_path / RECORD_NAME).touch()
    check_output(tmp_path)


@pytest.mark.parametrize("earlier", [False, True])
def test_publishing_replaces_in_one_step(earlier: bool, tmp_path: Path) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "out"
    (scratch / "found").mkdir(parents=True)
    (scratch / "found/new").write_text("new", encoding="ascii")
    (scratch / "found/link").symlink_to("dangling")
    if earlier:
        output.mkdir()
        (output / "old").touch()
    publish(scratch / "found", output, scratch)
    assert {path.name for path in output.iterdir()} == {"new", "link"}
    assert [path.name for path in scratch.rglob("old")] == (["old"] if earlier else [])


def test_a_bake_of_nothing_touches_nothing(tmp_path: Path) -> None:
    request = BakeRequest(tree=tmp_path / "no tree", output=tmp_path / "deep/out", cache=tmp_path / "cache")
    with pytest.raises(DiagnosticError):
        LocalBackend().bake(request)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mkosi.conf").touch()
    with pytest.raises(DiagnosticError) as raised:
        LocalBackend().bake(attrs.evolve(request, tree=tmp_path / "tree", targets=("aws",)))
    assert _code(raised) is Code.E_DEPLOYMENT
    assert not (tmp_path / "deep").exists()


def test_an_output_that_cannot_be_written_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mkosi.conf").touch()
    (tmp_path / "file").touch()
    request = BakeRequest(tree=tmp_path / "tree", output=tmp_path / "file/out", cache=tmp_path / "cache")
    with pytest.raises(DiagnosticError) as raised:
        LocalBackend().bake(request)
    assert _code(raised) is Code.E_OUTPUT
    assert raised.value.diagnostics[0].fix


def test_summaries_tell_what_a_tree_declares(tmp_path: Path) -> None:
    plain = read_summary(_summary(Repositories=["non-free"]), tree_inside=INSIDE.tree, tree=tmp_path)
    assert not plain.declared
    assert plain.components == ("main", "non-free")
    assert plain.seed == uuid.UUID("84ecb3f1-a580-4caf-aa8b-ea8375cbb856")
    for setting in ("Mirror", "LocalMirror", "Snapshot"):
        summary = _summary(**{setting: "https://m.example/debian"})
        assert read_summary(summary, tree_inside=INSIDE.tree, tree=tmp_path).declared

    trees = _summary(SandboxTrees=[{"Source": "/tdxvm/tree/mkosi.sandbox", "Target": None}])
    assert not read_summary(trees, tree_inside=INSIDE.tree, tree=tmp_path).declared
    (tmp_path / "mkosi.sandbox" / SOURCES_PATH).parent.mkdir(parents=True)
    (tmp_path / "mkosi.sandbox" / SOURCES_PATH).touch()
    assert read_summary(trees, tree_inside=INSIDE.tree, tree=tmp_path).declared


@pytest.mark.parametrize("summary", [b"", b"{}", b'{"Images": []}', b'{"Images": [{}]}', b"[]", _summary(Seed="x")])
def test_what_is_no_summary_is_refused(summary: bytes, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as raised:
        read_summary(summary, tree_inside=INSIDE.tree, tree=tmp_path)
    assert _code(raised) is Code.E_BACKEND_EXECUTION


def test_sources_are_written_for_trees_that_declare_none_alone(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    (archive / "dists/trixie").mkdir(parents=True)
    (archive / "dists/trixie/InRelease").touch()
    sources = read_summary(_summary(), tree_inside=INSIDE.tree, tree=tmp_path)
    mirror = write_sandbox_tree(tmp_path / "sandbox", sources, f"file:{archive}")
    assert mirror is not None
    assert mirror.uri == f"file:{archive}"
    text = (tmp_path / "sandbox" / SOURCES_PATH).read_text("utf-8")
    assert f"URIs: file:{archive}\nSuites: trixie\nComponents: main\n" in text
    assert "security" not in text
    assert "debug" not in text
    assert (tmp_path / "sandbox" / SOURCES_PATH).stat().st_mode & 0o077 == 0

    declared = attrs.evolve(sources, declared=True)
    custom = attrs.evolve(sources, distribution="custom")
    for number, other in enumerate((declared, custom)):
        assert write_sandbox_tree(tmp_path / f"other-{number}", other, f"file:{archive}") is None
        assert not (tmp_path / f"other-{number}" / SOURCES_PATH).exists()


def test_a_host_of_another_distribution_uses_the_mirror_of_the_tools_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    archive = tmp_path / "archive"
    (archive / "dists/trixie").mkdir(parents=True)
    (archive / "dists/trixie/InRelease").touch()
    other = "ubuntu" if os_release().get("ID") == "debian" else "debian"
    etc = tmp_path / "etc"
    (etc / "apt").mkdir(parents=True)
    (etc / "os-release").write_text(f"ID={other}\nVERSION_CODENAME=trixie\n")
    (etc / "apt/sources.list").write_text(f"deb file:{archive} trixie main\n")
    sources = read_summary(_summary(Distribution=other), tree_inside=INSIDE.tree, tree=tmp_path)
    assert write_sandbox_tree(tmp_path / "none", sources, "") is None
    mirror = write_sandbox_tree(tmp_path / "sandbox", sources, "", tools_etc=etc)
    assert mirror is not None
    assert (mirror.uri, mirror.origin) == (f"file:{archive}", f"apt's configuration ({etc}/apt/sources.list:1)")
    assert f"URIs: file:{archive}\nSuites: trixie\n" in (tmp_path / "sandbox" / SOURCES_PATH).read_text("utf-8")
    named = write_sandbox_tree(tmp_path / "named", sources, f"file:{archive}", tools_etc=etc)
    assert named is not None
    assert named.origin == "the mirror option"


def test_offline_sources_name_the_suites_of_the_package_cache(tmp_path: Path) -> None:
    lists = tmp_path / "lib/apt/lists"
    lists.mkdir(parents=True)
    (lists / "m.example_debian_dists_trixie-updates_InRelease").touch()
    has_suite = cached_suites(tmp_path)
    assert has_suite("https://m.example/debian/", "trixie-updates")
    assert not has_suite("https://m.example/debian", "trixie-security")
    assert not has_suite("https://other.example/debian", "trixie-updates")


def test_lines_name_folders_as_the_user_knows_them() -> None:
    line = FOLDERS.on_host("‣ Running script /tdxvm/tree/scripts/x into /tdxvm/scratch/output", INSIDE)
    assert line == "‣ Running script /t r/scripts/x into /s/output"


def test_a_clone_whose_folders_look_like_inside_names_is_named_once() -> None:
    folders = attrs.evolve(FOLDERS, tree=Path("/root/tdxvm/build/demo/tree"))
    assert folders.on_host("Running /tdxvm/tree/scripts/x", INSIDE) == "Running /root/tdxvm/build/demo/tree/scripts/x"


def test_a_bake_writes_everywhere_but_to_the_tree() -> None:
    writable = {str(bind.target): bind.writable for bind in FOLDERS.binds(INSIDE)}
    assert writable == {"/tdxvm/tree": False, "/tdxvm/scratch": True, "/tdxvm/packages": True, "/tdxvm/build": True}


@pytest.mark.parametrize(
    ("text", "expected"), [("25.3", (25, 3)), ("27.1~devel", (27, 1)), ("", ()), ("26", (26,)), ("9", (9,))]
)
def test_versions_compare_as_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert version_tuple(text) == expected


def test_tool_versions_are_known_before_there_is_a_tools_root(tmp_path: Path) -> None:
    assert tool_versions(tmp_path)["mkosi"]
    assert tool_versions(tmp_path)["systemd"].isdigit()


def test_nix_command_line() -> None:
    assert develop_argv("path:/f", ["mkosi", "-C", "/t r", "build"]) == [
        "nix", "--extra-experimental-features", "nix-command flakes", "develop", "path:/f", "--command",
        "mkosi", "-C", "/t r", "build",
    ]  # fmt: skip
    assert (SHELL_FOLDER / "flake.nix").is_file()
    assert version_in("mkosi 25.3\n") == "25.3"
    assert version_in("mkosi") == ""


def test_lima_command_lines() -> None:
    backend = LimaBackend(cpus=6, memory="12GiB", disk="100GiB")
    assert backend.create_argv(Path("/x/tdxvm.yaml")) == [
        "limactl", "create", "--tty=false", "--name=tdxvm", "--cpus=6", "--memory=12", "--disk=100", "/x/tdxvm.yaml",
    ]  # fmt: skip
    assert shell_argv("tdxvm", ["true"]) == ["limactl", "shell", "--workdir", "/", "tdxvm", "true"]
    assert copy_argv("/a", "tdxvm:/b") == ["limactl", "copy", "--recursive", "/a", "tdxvm:/b"]
    tool = LimaMkosi(instance="tdxvm", version="25.3")
    sent = tool.send_argvs(FOLDERS, tool.folders(FOLDERS))
    assert ["limactl", "copy", "--recursive", "/t r", "tdxvm:/var/tmp/tdxvm/tree"] in sent
    assert ["limactl", "copy", "--recursive", "/s/sandbox", "tdxvm:/var/tmp/tdxvm/scratch/sandbox"] in sent


@pytest.mark.parametrize(("text", "expected"), [("12GiB", 12), ("1.5 GiB", 1.5), ("512MiB", 0.5)])
def test_lima_sizes(text: str, expected: float) -> None:
    assert gibibytes(text) == expected


@pytest.mark.parametrize("text", ["", "12", "12GB", "-1GiB", "GiB", "12GiB; rm"])
def test_lima_sizes_that_are_none(text: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        gibibytes(text)
    assert _code(raised) is Code.E_VALUE


def test_lima_machines_are_found_in_its_listing() -> None:
    listing = b'{"name":"other","status":"Running"}\nnoise\n3\n{"name":"tdxvm","status":"Stopped"}\n'
    assert instance_status(listing, "tdxvm") == "Stopped"
    assert instance_status(listing, "absent") == ""
    assert instance_status(b"", "tdxvm") == ""


@pytest.mark.parametrize("backend", [NixBackend(), LimaBackend()])
def test_absent_tools_are_unavailable_with_a_fix(
    backend: NixBackend | LimaBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/mkosi.conf").touch()
    monkeypatch.setattr("shutil.which", lambda _: None)
    request = BakeRequest(tree=tmp_path / "tree", output=tmp_path / "work/out", cache=tmp_path / "cache")
    with pytest.raises(DiagnosticError) as raised:
        backend.bake(request)
    assert _code(raised) is Code.E_BACKEND_UNAVAILABLE
    assert "install" in raised.value.diagnostics[0].fix
    assert not any((tmp_path / "work").iterdir())


def test_backends_are_chosen_by_name_or_description() -> None:
    class LimaMkosiBackend:
        cpus = 3
        memory = "7GiB"
        disk = "50GiB"

    class LocalLinuxBackend:
        pass

    class NixMkosiBackend:
        pass

    assert backend_for(None) == backend_for("local") == backend_for(LocalLinuxBackend()) == LocalBackend()
    assert backend_for("nix") == backend_for(NixMkosiBackend()) == NixBackend()
    assert backend_for(LimaMkosiBackend()) == LimaBackend(cpus=3, memory="7GiB", disk="50GiB")
    for nonsense in ("vagrant", 7, object()):
        with pytest.raises(DiagnosticError) as raised:
            backend_for(nonsense)
        assert _code(raised) is Code.E_BACKEND_UNAVAILABLE
