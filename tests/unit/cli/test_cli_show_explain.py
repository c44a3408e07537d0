"""``tdxc show`` and ``tdxc explain``: every aspect and every kind of topic, each with the reason for what it says."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.commands import SMALL, invoke, project
from tdxc.cli.show import ASPECTS
from tdxc.diagnostics import Code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("aspect", "line"),
    [
        ("packages", r"ca-certificates +image +declared at small.py:4:1"),
        ("packages", r"systemd +image +init system systemd: .* \(from small.py:3:7\)"),
        ("units", r"app.service +minimal.target +declared at small.py:7:1"),
        ("boot", r"\d+ +app.service +.*runtime-init.service.*"),
        ("kernel", r"CONFIG_TSM_REPORTS +m +.*quotes.*"),
        ("firewall", r"accept +tcp +8080 +anywhere +small.py:9:1"),
        ("files", r"/usr/bin/app +0755 root:root +declared at small.py:6:1"),
        ("passes", r"harden-services +give every service a sandbox.*"),
        ("ir", r"ResolvedImage"),
        ("authored", r"AuthoredImage"),
    ],
)
def test_an_aspect_has_the_line(folder: Path, aspect: str, line: str) -> None:
    outcome = invoke("show", aspect, "small.py")
    assert (outcome.status, outcome.err) == (0, "")
    assert any(re.fullmatch(line, printed) for printed in outcome.out.splitlines()), outcome.out


def archive(sizes: dict[str, int]) -> bytes:
    """A cpio archive (newc) with files of these sizes."""
    data = b""
    for path, size in {**sizes, "TRAILER!!!": 0}.items():
        name = path.encode() + b"\0"
        fields = (1, 0o100644, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        data += head.ljust(-(-len(head) // 4) * 4, b"\0") + bytes(-(-size // 4) * 4)
    return data


def test_every_aspect_is_tested_or_needs_a_file_of_its_own() -> None:
    assert set(ASPECTS) == {
        "ir",
        "authored",
        "passes",
        "packages",
        "units",
        "boot",
        "kernel",
        "firewall",
        "files",
        "firmware",
        "size",
    }


def test_a_profile_changes_what_is_shown(folder: Path) -> None:
    assert "strace" not in invoke("show", "packages", "small.py").out
    assert re.search(
        r"strace +image +declared at small.py:12:5", invoke("show", "packages", "small.py", "--profile", "dev").out
    )


def test_boot_is_drawn_as_svg(folder: Path) -> None:
    outcome = invoke("show", "boot", "small.py", "--svg", "boot.svg")
    assert outcome.status == 0
    root = ElementTree.fromstring((folder / "boot.svg").read_text())  # noqa: S314 - what tdxc wrote itself
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "app.service" in "".join(root.itertext())


def test_svg_goes_with_boot_alone_and_names_a_writable_file(folder: Path) -> None:
    assert invoke("show", "units", "small.py", "--svg", "x.svg").status == 2
    refused = invoke("show", "boot", "small.py", "--svg", "missing/x.svg")
    assert refused.status == 3
    assert "error[E_OUTPUT]: cannot read or write 'missing/x.svg'" in refused.err


@pytest.mark.parametrize(("aspect", "code"), [("firmware", Code.E_FIRMWARE), ("size", Code.E_ARTIFACT)])
def test_a_file_that_the_aspect_cannot_use_is_a_diagnostic(folder: Path, aspect: str, code: Code) -> None:
    outcome = invoke("show", aspect, "small.py")
    assert outcome.status == 1
    assert f"error[{code.value}]" in outcome.err


def test_size_adds_up_the_folders_of_the_initrd(tmp_path: Path) -> None:
    (tmp_path / "x.efi").write_bytes(bytes(30_000))
    (tmp_path / "x.initrd").write_bytes(archive({"usr/bin/a": 20_000, "usr/bin/b": 5_000, "etc/small": 1}))
    outcome = invoke("show", "size", str(tmp_path))
    assert outcome.out.splitlines() == ["    0.03  x.efi", "    0.03  x.initrd", "    0.03  /usr/bin"]


@pytest.mark.parametrize("code", list(Code))
def test_explain_knows_every_code_without_a_recipe(code: Code) -> None:
    outcome = invoke("explain", code.value)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{code.value}\n\n")
    assert all(len(line) <= 100 for line in outcome.out.splitlines())


@pytest.mark.parametrize(
    ("topic", "answer"),
    [
        ("app.service", r"app.service: declared at small.py:7:1"),
        ("app.service", r"    ExecStart=/usr/bin/app"),
        ("app.service", r"    NoNewPrivileges=.*"),
        ("app", r"app: user, declared at small.py:5:1"),
        ("app", r"app.service: declared at small.py:7:1"),
        ("/usr/bin/app", r"/usr/bin/app: file, 0755 root:root, sha256:[0-9a-f]{64}"),
        ("ca-certificates", r"ca-certificates: package, declared at small.py:4:1"),
        ("prepare", r"prepare: boot step, declared at small.py:8:1"),
        ("CONFIG_TSM_REPORTS", r"CONFIG_TSM_REPORTS=m: .*"),
        ("TSM_REPORTS", r"CONFIG_TSM_REPORTS=m: .*"),
        ("console", r"console=ttyS0.*: kernel command line, .*"),
        ("/usr/share/doc", r"removed +path +/usr/share/doc +documentation .*"),
        ("/usr/share/doc/apt/copyright", r"removed +path +/usr/share/doc +documentation .*"),
        ("dpkg", r"removed +binary +package:dpkg +.*"),
        ("virtio_pci.ko", r"kept +module +virtio_pci +.*"),
        ("btrfs.ko", r"removed +module +btrfs.ko +.*"),
        ("getty@tty1.service", r"removed +unit +getty@tty1.service +.*"),
        ("systemctl", r"kept +binary +systemctl +.*"),
        ("debloat", r"kept +unit +basic.target +.*"),
        ("debloat", r"removed +path +/usr/share/man +.*"),
    ],
)
def test_explain_answers_with_the_line_or_the_rule(folder: Path, topic: str, answer: str) -> None:
    outcome = invoke("explain", topic, "small.py")
    assert (outcome.status, outcome.err) == (0, "")
    assert any(re.fullmatch(answer, line) for line in outcome.out.splitlines()), outcome.out


def test_a_pattern_that_keeps_modules_is_why_one_is_kept(folder: Path) -> None:
    recipe = (folder / "small.py").read_text(encoding="utf-8")
    (folder / "small.py").write_text(recipe.replace("enabled=True", 'keep_modules=["snd_*"]'))
    assert re.fullmatch(
        r"kept +module +snd_\* +the recipe keeps it .*\n", invoke("explain", "snd_hda.ko", "small.py").out
    )
    assert re.fullmatch(r"removed +module +btrfs.ko +.*\n", invoke("explain", "btrfs.ko", "small.py").out)


def test_every_decision_of_debloat_has_a_reason(folder: Path) -> None:
    lines = invoke("explain", "debloat", "small.py").out.splitlines()
    assert len(lines) > 50
    assert all(
        re.fullmatch(r"(kept   |removed) (binary|unit|path|module) +\S+ +\S.* \(small\.py:\d+:\d+\)", line)
        for line in lines
    )


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["E_PTH"], "did you mean E_PATH?"),
        (["E_PTH", "small.py"], "did you mean E_PATH?"),
        (["app.service"], "give the recipe too"),
        (["nosuch", "small.py"], "tdxc show"),
        (["/nosuch", "small.py"], "tdxc show"),
    ],
)
def test_a_topic_that_names_nothing_is_an_error_with_a_way_on(folder: Path, arguments: list[str], fix: str) -> None:
    outcome = invoke("explain", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert "error[E_REFERENCE]" in outcome.err
    assert fix in outcome.err


def test_a_topic_of_a_profile_is_found_with_it(folder: Path) -> None:
    assert "fix: a profile has it: --profile dev" in invoke("explain", "strace", "small.py").err
    assert invoke("explain", "strace", "small.py").status == 1
    outcome = invoke("explain", "strace", "small.py", "--profile", "dev")
    assert outcome.out.splitlines()[0] == "strace: package, declared at small.py:12:5"


def test_explain_overrides_lists_settings_and_files(folder: Path) -> None:
    (folder / "mine/mkosi.extra").mkdir(parents=True)
    (folder / "mine/mkosi.conf").write_text("[Output]\nSeed=random\nCompressOutput=no\n")
    (folder / "mine/mkosi.extra/x").write_text("x")
    outcome = invoke("explain", "overrides", "small.py", "--mkosi-override", "mine")
    assert outcome.status == 0
    assert re.search(
        r"^\[Output\] Seed: '[0-9a-f-]{36}' -> 'random'\n    partition identifiers", outcome.out, re.MULTILINE
    )
    assert "[Output] CompressOutput: " in outcome.out
    assert "+ mkosi.extra/x" in outcome.out
    assert invoke("explain", "overrides", "small.py").status == 2


def test_explain_reports_a_bad_recipe_first(folder: Path) -> None:
    outcome = invoke("explain", "app.service", "bad.py")
    assert outcome.status == 1
    assert "bad.py:3:7: error[E_KEY]" in outcome.err


def test_debloat_that_is_off_is_said_to_be_off(folder: Path) -> None:
    (folder / "off.py").write_text(SMALL.replace("enabled=True", "enabled=False"))
    assert "debloat is off" in invoke("explain", "debloat", "off.py").out
