"""``tdxc lock``, ``build``, ``run`` and ``doctor`` without a machine that bakes: refusals come before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import SMALL, invoke, process, project, state
from support.efi_images import Part, build_pe, build_uki
from tdxc.bake import BakeOptions, BakeResult
from tdxc.ir import AuthoredImage, codec
from tdxc_runtime.backends import BakeOutput, Durations
from tdxc_runtime.vm import Credential, DiskFormat, Machine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project(tmp_path, monkeypatch)


def test_a_lock_fits_until_the_recipe_changes(folder: Path) -> None:
    assert invoke("lock", "small.py").status == 0
    lock = json.loads((folder / "build/tdx.lock").read_text())
    assert invoke("lock", "small.py", "--check").out.startswith("build/tdx.lock: fits the recipe\n")
    (folder / "small.py").write_text("# a comment\n" + SMALL)
    assert invoke("lock", "small.py", "--check").status == 0
    (folder / "small.py").write_text(SMALL.replace("8080", "8081"))
    outcome = invoke("lock", "small.py", "--check")
    assert outcome.status == 4
    assert "error[E_LOCKFILE]" in outcome.err
    assert "tdxc lock" in outcome.err
    assert json.loads((folder / "build/tdx.lock").read_text()) == lock


def test_a_second_lock_is_the_same_bytes(folder: Path) -> None:
    invoke("lock", "small.py", "--lockfile", "a.lock")
    invoke("lock", "small.py", "--lockfile", "b.lock")
    assert (folder / "a.lock").read_bytes() == (folder / "b.lock").read_bytes()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"version": 99}', "\xff"])
def test_a_frozen_build_refuses_without_a_fitting_lock_before_it_writes(folder: Path, content: str | None) -> None:
    if content is not None:
        (folder / "build").mkdir()
        (folder / "build/tdx.lock").write_bytes(content.encode("latin-1"))
    before = state(folder)
    outcome = invoke("build", "small.py", "--frozen")
    assert outcome.status == 4
    assert "error[E_LOCKFILE]" in outcome.err
    assert state(folder) == before


def test_a_recipe_that_does_not_compile_is_not_locked(folder: Path) -> None:
    assert invoke("lock", "bad.py").status == 1
    assert not (folder / "build").exists()


@pytest.mark.parametrize(
    ("rule", "arguments"),
    [
        ("require_frozen_lock=True", []),
        ('network_mode="offline"', []),
        ('mutable_ref_policy="error"', ["--emit-mkosi", "out"]),
    ],
)
def test_a_policy_stops_a_build_before_it_writes(folder: Path, rule: str, arguments: list[str]) -> None:
    (folder / "strict.py").write_text(f"from tdx.policy import Policy\n{SMALL}img.set_policy(Policy({rule}))\n")
    before = state(folder)
    outcome = invoke("build", "strict.py", *arguments)
    assert outcome.status == 4
    assert f"error[E_POLICY]: policy {rule.partition('=')[0]}" in outcome.err
    assert state(folder) == before


def test_a_bad_recipe_stops_a_build_before_it_writes(folder: Path) -> None:
    before = state(folder)
    assert invoke("build", "bad.py").status == 1
    assert state(folder) == before


@pytest.mark.parametrize(
    ("image", "words"), [("nothing", "does not exist"), ("empty", "holds no UKI"), ("two", "several UKIs")]
)
def test_run_says_what_is_missing(folder: Path, image: str, words: str) -> None:
    (folder / "empty").mkdir()
    (folder / "two").mkdir()
    for name in ("a.efi", "b.efi"):
        (folder / "two" / name).write_bytes(b"MZ")
    outcome = invoke("run", image)
    assert outcome.status == 1
    assert "error[E_ARTIFACT]" in outcome.err
    assert words in outcome.err
    assert "tdxc build" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [["--forward", "80"], ["--forward", "0:80"], ["--forward", "99999:80"], ["--forward", "80:80/sctp"],
     ["--memory", "much"], ["--memory", "0"], ["--until", "("], ["--vcpus", "many"], ["--vsock", "2"],
     ["--vsock", "4294967295"], ["--disk", "absent.raw"], ["--credential", "tdx.secret.a"], ["--credential", "=a"],
     ["--credential", "a="], ["--credential", "a b=c"]],
)  # fmt: skip
def test_run_refuses_impossible_options(folder: Path, arguments: list[str]) -> None:
    (folder / "image.efi").write_bytes(build_uki())
    outcome = invoke("run", "image.efi", *arguments)
    assert outcome.status in {1, 2}
    assert "rror" in outcome.err
    assert "image.efi" not in outcome.err


def test_run_hands_disks_credentials_and_vsock_to_the_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "image.efi").write_bytes(build_uki())
    started: list[Machine] = []
    monkeypatch.setattr("tdxc_runtime.vm.boot_attached", lambda machine, **_: started.append(machine))
    for name in ("a.QCOW2", "b.vhd", "c.raw"):
        (folder / name).touch()
    disks = ["--disk", "a.QCOW2", "--disk", "b.vhd", "--disk", "c.raw"]
    outcome = invoke("run", "image.efi", *disks, "--credential", "tdx.secret.a=value=", "--vsock", "3")
    assert outcome.status == 0, outcome.err
    (machine,) = started
    assert [(disk.path.name, disk.format, disk.persistent) for disk in machine.disks] == [
        ("a.QCOW2", DiskFormat.QCOW2, True),
        ("b.vhd", DiskFormat.VHD, True),
        ("c.raw", DiskFormat.RAW, True),
    ]
    assert machine.credentials == (Credential(name="tdx.secret.a", path=Path("value=")),)
    assert machine.vsock_cid == 3


def test_run_of_a_recipe_bakes_it_unless_its_last_bake_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baked: list[str] = []
    started: list[Machine] = []

    def bake(image: AuthoredImage, options: BakeOptions, _backend: object) -> BakeResult:
        baked.append(options.recipe)
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "small.efi").write_bytes(build_uki())
        digest = codec.digest(image)
        (options.output / "image.json").write_text(json.dumps({"recipe_digest": f"sha256:{digest}"}))
        output = BakeOutput(
            folder=options.output, artifacts=(), log=options.output / "log", mirror=None, mkosi_version="25.3",
            tools="host", durations=Durations(tools_s=0, mkosi_s=0, publish_s=0),
        )  # fmt: skip
        return BakeResult(
            image="small", profiles=(), tree=options.tree, recipe_digest=digest, targets=("qemu",), output=output
        )

    monkeypatch.setattr("tdxc.bake.bake_image", bake)
    monkeypatch.setattr("tdxc_runtime.vm.boot_attached", lambda machine, **_: started.append(machine))
    assert invoke("run", "bad.py").status == 1
    assert invoke("run", "small.py", "--memory", "much").status == 1
    assert invoke("run", "small.py", "--until", "(").status == 2
    assert baked == []
    for _ in range(2):
        assert invoke("run", "small.py", "--memory", "1G").status == 0
    (folder / "small.py").write_text(SMALL.replace("8080", "8081"))
    assert invoke("run", "small.py:img").status == 0
    assert baked == ["small.py", "small.py:img"]
    assert [machine.memory_mib for machine in started] == [1024, 1024, 2048]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the headers are cut short"),
        (b"MZ not really", "the headers are cut short"),
        (b"QFI\xfb" + bytes(4096), "does not begin with 'MZ'"),
        (build_uki()[:3000], "beyond the end of the file"),
        (build_pe([Part(".text", b"\x90" * 700)]), "without a kernel"),
    ],
)
def test_a_file_that_is_no_uki_is_refused_before_anything_boots(folder: Path, content: bytes, words: str) -> None:
    (folder / "image.efi").write_bytes(content)
    outcome = invoke("run", "image.efi", "--until", "x", "--timeout", "1")
    assert outcome.status == 1
    assert "error[E_ARTIFACT]" in outcome.err
    assert words in outcome.err
    assert "starting QEMU" not in outcome.err


def test_doctor_names_a_fix_for_everything_that_does_not_work(folder: Path) -> None:
    bare = {"PATH": "/nonexistent", "HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    outcome = process("doctor", "--format", "json", cwd=folder, **bare)
    rows = json.loads(outcome.out)
    assert outcome.status == 3
    assert all(row["fix"] for row in rows if row["status"] == "fail")
    text = process("doctor", cwd=folder, **bare)
    assert text.out.count("fix: ") == sum(bool(row["fix"]) and row["status"] != "ok" for row in rows)
