"""The tools root for real: made once by two processes at a time, repaired, entered as root and without root rights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.passes.known_directives import known_directives
from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot import ToolsRoot

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
_SMALL = """\
import json, sys
from pathlib import Path
import tdxc_runtime.toolsroot.make as make
from tdxc_runtime.toolsroot import ToolsRoot
make.PACKAGES = ("cpio",)
make.SENTINELS = ("usr/bin/cpio", "usr/bin/dpkg", "var/lib/dpkg/status")
told = []
def tell(text):
    told.append(text)
    print(text, file=sys.stderr)
root = ToolsRoot.ensure(cache=Path(sys.argv[1]), progress=tell)
said = root.run(["cpio", "--version"]).lines[0]
print(json.dumps({"made": root.made, "folder": str(root.folder), "said": said, "told": told}))
"""


def _ensure_small(cache: Path) -> subprocess.Popen[str]:
    """Ensure a tools root of the same making but few packages in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", _SMALL, str(cache)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _result(process: subprocess.Popen[str]) -> dict[str, object]:
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    result = json.loads(output)
    assert isinstance(result, dict)
    return result


def _entries(cache: Path) -> set[str]:
    return {path.name for path in (cache / "tools").iterdir()}


def test_made_once_by_two_processes_then_reused_and_repaired(tmp_path: Path) -> None:
    pair = [_ensure_small(tmp_path), _ensure_small(tmp_path)]
    results = [_result(process) for process in pair]
    assert sorted(bool(result["made"]) for result in results) == [False, True]
    assert results[0]["folder"] == results[1]["folder"]
    assert all("cpio" in str(result["said"]) for result in results)
    folder = Path(str(results[0]["folder"]))
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["packages"]["cpio"]
    assert manifest["suite"] == "trixie"
    assert _entries(tmp_path) == {folder.name, f"{folder.name}.lock", f"{folder.name}.log", "staging"}
    assert not any((tmp_path / "tools/staging").iterdir())
    assert not (folder / "root/etc/apt/apt.conf.d/99mmdebstrap").exists()

    reused = _result(_ensure_small(tmp_path))
    assert not reused["made"]
    assert reused["told"] == []

    (folder / "root/usr/bin/cpio").unlink()
    repaired = _result(_ensure_small(tmp_path))
    assert repaired["made"]
    assert any("repairing" in line and "cpio" in line for line in repaired["told"])  # type: ignore[attr-defined]  # a list
    assert _entries(tmp_path) == {folder.name, f"{folder.name}.lock", f"{folder.name}.log", "staging"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_while_being_made_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    process = _ensure_small(tmp_path)
    deadline = time.monotonic() + 300
    while not any((tmp_path / "tools").glob(".*.partial/made/root/usr")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode != 0
    deadline = time.monotonic() + 90
    while any(name.endswith(".partial") for name in _entries(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert {name.rsplit(".", 1)[-1] for name in _entries(tmp_path)} == {"lock", "log"}
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            assert tmp_path.name not in table.read_text("utf-8", "replace")
        except OSError:
            continue


def test_an_unusable_mirror_is_an_error_with_aptss_words(tmp_path: Path) -> None:
    archive = tmp_path / "empty-archive"
    archive.mkdir()
    with pytest.raises(DiagnosticError) as raised:
        ToolsRoot.ensure(cache=tmp_path / "cache", mirror=f"file:{archive}")
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code is Code.E_BACKEND_EXECUTION
    assert any("empty-archive" in note.message for note in diagnostic.notes)
    assert not any(name.endswith((".partial", "staging")) for name in _entries(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tools() -> ToolsRoot:
    return ToolsRoot.ensure()


def test_it_holds_what_a_bake_and_a_boot_need(tools: ToolsRoot) -> None:
    script = (
        "set -e; mkosi --version; ukify --version; systemd-analyze --version; systemd-repart --version; nft --version; "
        "shellcheck --version; zstd --version; mcopy --version; mkfs.vfat --help; kmod --version; cpio --version; "
        "qemu-system-x86_64 --version; swtpm --version; apt-get --version; dpkg --version"
    )
    said = "\n".join(tools.run(["sh", "-c", script]).lines)
    assert "mkosi 25.3" in said
    assert "systemd 257" in said
    assert "QEMU emulator version 10" in said
    assert tools.manifest.packages["mkosi"].startswith("25.3")


def test_the_compiler_knows_the_directives_that_systemd_itself_lists(tools: ToolsRoot) -> None:
    dump = tools.run(["/usr/lib/systemd/systemd", "--dump-configuration-items"], capture=True).stdout.decode()
    listed: dict[str, set[str]] = {}
    section = ""
    for line in dump.splitlines():
        section = line[1:-1] if line.startswith("[") else section
        if "=" in line:
            listed.setdefault(section, set()).add(line.partition("=")[0])
    assert listed == known_directives()


def test_inside_only_what_was_bound_is_seen_and_only_writable_binds_change(tools: ToolsRoot, tmp_path: Path) -> None:
    shown, open_ = tmp_path / "shown: a, b", tmp_path / "open"
    shown.mkdir()
    open_.mkdir()
    (tmp_path / "secret").touch()
    (shown / "file").write_text("content", encoding="ascii")
    binds = (
        Bind(source=shown, target=Path("/usr/share/deep/inside tools")),
        Bind(source=shown / "file", target=Path("/etc/one-file")),
        Bind(source=open_, writable=True),
        Bind(source=shown),
    )
    script = (
        f'cat "/usr/share/deep/inside tools/file" /etc/one-file "{shown}/file"; echo; touch {open_}/made /etc/y; '
        f'for place in /usr/x /var/x "{shown}/x"; do touch "$place" 2>/dev/null && echo "wrote $place"; done; '
        f"ls {tmp_path}; ls /usr/share/deep; test -e /usr/share/OVMF/OVMF_CODE_4M.fd && echo kept; "
        "echo $$; ls -d /proc/[0-9]* | wc -l; test -w /dev/null && echo null"
    )
    lines = tools.run(["sh", "-c", script], binds=binds, check=False).lines
    assert lines[0] == "content" * 3
    assert not any(line.startswith("wrote") for line in lines)
    assert set(lines[1:4]) == {"open", shown.name, "inside tools"}
    assert "secret" not in lines
    assert lines[4] == "kept"
    assert int(lines[5]) <= 3
    assert int(lines[6]) <= 6
    assert lines[7] == "null"
    assert (open_ / "made").exists()
    assert not (tools.root / "usr/share/deep").exists()
    assert not (tools.root / "etc/one-file").exists()
    assert not (tools.root / "etc/y").exists()


def test_secrets_of_the_environment_stay_outside(tools: ToolsRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_TOKEN", "hunter2")
    lines = tools.run(["env"], env={"GIVEN": "yes"}).lines
    assert "GIVEN=yes" in lines
    assert not any("hunter2" in line for line in lines)


_UNPRIVILEGED = """\
import os
from pathlib import Path
from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot import ToolsRoot
os.environ["TDXVM_CACHE"] = "/cache"
root = ToolsRoot.ensure()
out = Bind(source=Path("/home/out"), writable=True)
script = "id -u; touch /home/out/by-root; install -o 7 -g 7 /dev/null /home/out/by-seven; mkosi --version"
completed = root.run(["sh", "-c", script], binds=(out,))
print(os.geteuid(), root.made, *completed.lines)
"""


def test_entered_without_root_rights_through_a_user_namespace(tools: ToolsRoot, tmp_path: Path) -> None:
    """A machine of its own for this: the tools root, with a user who has subordinate ids and no rights."""
    out, cache = tmp_path / "out", tmp_path / "cache"
    for folder in (out, cache):
        folder.mkdir()
        folder.chmod(0o777)
    for name, text in {
        "passwd": "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
        "subuid": "user:200000:65536\n",
        "subgid": "user:300000:65536\n",
        "script.py": _UNPRIVILEGED,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o644)
    packages = Path(attrs.__file__).parents[1]
    binds = [
        *(Bind(source=tmp_path / name, target=Path("/etc") / name) for name in ("passwd", "subuid", "subgid")),
        Bind(source=tmp_path / "script.py", target=Path("/script.py")),
        Bind(source=out, target=Path("/home/out"), writable=True),
        Bind(source=cache, target=Path("/cache/tools"), writable=True),
        Bind(source=tools.folder, target=Path("/cache/tools") / tools.folder.name),
        Bind(source=packages, target=Path("/packages")),
        *(Bind(source=ROOT / name, target=Path("/project") / name) for name in ("compiler", "runtime")),
    ]
    argv = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "python3", "/script.py"]
    env = {
        "PYTHONPATH": "/project/compiler:/project/runtime:/packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/home",
    }
    lines = tools.run(argv, binds=binds, env=env, check=False).lines
    assert lines[-1].startswith("1000 False 0 mkosi 25.3"), lines
    assert ((out / "by-root").stat().st_uid, (out / "by-root").stat().st_gid) == (1000, 1000)
    assert ((out / "by-seven").stat().st_uid, (out / "by-seven").stat().st_gid) == (200006, 300006)
    for name in ("by-root", "by-seven"):
        (out / name).unlink()


_ON_A_GOOD_HOST = """\
from pathlib import Path
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.backends import bake
from tdxc_runtime.vm import FromDisks, Machine, boot
try:
    bake(Path("/tree"), Path("/out/image"), log=Path("/out/log"))
except DiagnosticError as fault:
    print("bake:", "; ".join(note.message for note in fault.diagnostics[0].notes))
print("log:", Path("/out/log").read_text("utf-8").splitlines()[1])
with boot(Machine(boot=FromDisks(), memory_mib=256, network=False)) as vm:
    print("qemu:", vm.qemu)
    vm.console.wait_for("BdsDxe|UEFI|Shell", 420)
print("left:", sorted(path.name for path in Path("/out").iterdir()), Path("/root/.cache/tdxvm/tools").exists())
"""


def test_a_host_that_has_the_tools_needs_no_tools_root(tools: ToolsRoot, tmp_path: Path) -> None:
    """The tools root plays the host: its own mkosi and QEMU are used, and no other root is made in it."""
    out, tree = tmp_path / "out", tmp_path / "tree"
    out.mkdir()
    tree.mkdir()
    (tree / "mkosi.conf").write_text("[Distribution]\nDistribution=debian\nRelease=trixie\n", encoding="utf-8")
    (tree / "mkosi.sync").write_text("#!/bin/sh\necho no luck today\nexit 3\n", encoding="utf-8")
    (tree / "mkosi.sync").chmod(0o755)
    (tmp_path / "script.py").write_text(_ON_A_GOOD_HOST, encoding="utf-8")
    binds = [
        Bind(source=tree, target=Path("/tree")),
        Bind(source=out, target=Path("/out"), writable=True),
        Bind(source=tmp_path / "script.py", target=Path("/script.py")),
        Bind(source=Path(attrs.__file__).parents[1], target=Path("/packages")),
        *(Bind(source=ROOT / name, target=Path("/project") / name) for name in ("compiler", "runtime")),
    ]
    env = {"PYTHONPATH": "/project/compiler:/project/runtime:/packages", "PYTHONDONTWRITEBYTECODE": "1"}
    said = tools.run(["python3", "/script.py"], binds=binds, env=env, check=False).lines
    answers = dict(line.split(": ", 1) for line in said if ": " in line)
    assert "no luck today" in answers["bake"], said
    assert answers["log"] == "mkosi 25.3, mkosi of the host"
    assert answers["qemu"].startswith("QEMU 10")
    assert answers["qemu"].endswith("of the host")
    assert answers["left"] == "['log'] False"
