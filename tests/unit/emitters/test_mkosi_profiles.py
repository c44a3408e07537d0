"""A profile is the difference of its variant to the base, as mkosi lays it over."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import (
    Blob,
    CompiledImage,
    DebloatKind,
    Directory,
    File,
    KeepDecision,
    KernelArgument,
    OutputTarget,
    Package,
    RemoveDecision,
    ResolvedDebloat,
    ResolvedImage,
    Script,
    ScriptPhase,
    Suite,
)
from tdxc.tree import FileTree
from tdxc_emitters import emit_image

PROFILE = "mkosi.profiles/cloud"


def variant_of(image: ResolvedImage, **changes: Any) -> FileTree:
    variant = attrs.evolve(image, profiles=("cloud",), **changes)
    return emit_image(CompiledImage(span=SPAN, image=image, variants=(variant,)))


def files_of(tree: FileTree) -> list[str]:
    return [path.removeprefix(f"{PROFILE}/") for path in tree if path.startswith(PROFILE)]


def words(*texts: str) -> tuple[KernelArgument, ...]:
    return tuple(KernelArgument(span=SPAN, text=text) for text in texts)


def run(name: str, text: str = "true") -> Script:
    return Script(span=SPAN, phase=ScriptPhase.POSTINST, name=name, text=text)


def test_equal_variant_differs_in_its_name_alone() -> None:
    tree = variant_of(resolved_image())
    assert files_of(tree) == ["measurement/manifest.json", "mkosi.conf"]
    assert "=" not in tree.text(f"{PROFILE}/mkosi.conf")


def test_lists_hold_what_is_added() -> None:
    image = resolved_image()
    packages = tuple(sorted((*image.packages, Package(span=SPAN, name="dmidecode")), key=lambda p: p.name))
    text = variant_of(image, packages=packages).text(f"{PROFILE}/mkosi.conf")
    assert "Packages=\n        dmidecode\n" in text
    assert "systemd" not in text


def test_scalars_hold_what_is_changed() -> None:
    text = variant_of(resolved_image(), docs=True).text(f"{PROFILE}/mkosi.conf")
    assert [line for line in text.splitlines() if "=" in line] == ["WithDocs=yes"]


def test_command_line_grows_at_its_end() -> None:
    image = resolved_image()
    kernel = attrs.evolve(image.kernel, cmdline=(*image.kernel.cmdline, *words("debug")))
    assert "KernelCommandLine=\n        debug\n" in variant_of(image, kernel=kernel).text(f"{PROFILE}/mkosi.conf")


def test_other_command_line_starts_anew() -> None:
    image = resolved_image()
    kernel = attrs.evolve(image.kernel, cmdline=words("console=hvc0"))
    text = variant_of(image, kernel=kernel).text(f"{PROFILE}/mkosi.conf")
    assert "KernelCommandLine=\nKernelCommandLine=\n        console=hvc0\n" in text


def test_files_are_those_added_or_changed() -> None:
    def file(path: str, data: bytes) -> File:
        return File(span=SPAN, path=path, content=Blob.of(data), mode=0o600)

    image = resolved_image(files=(file("/etc/a", b"1"), file("/etc/b", b"1")))
    tree = variant_of(image, files=(file("/etc/a", b"1"), file("/etc/b", b"2"), file("/etc/c", b"3")))
    extra = [path for path in files_of(tree) if path.startswith("mkosi.extra")]
    assert extra == ["mkosi.extra/etc/b", "mkosi.extra/etc/c"]
    assert tree.text(f"{PROFILE}/rules/modes").splitlines()[1:] == ["0600 /etc/c"]


def test_file_that_the_variant_lacks_is_removed() -> None:
    image = resolved_image(files=(File(span=SPAN, path="/etc/a", content=Blob.of(b"1")),))
    assert "RemoveFiles=\n        /etc/a\n" in variant_of(image, files=()).text(f"{PROFILE}/mkosi.conf")


def test_file_that_mkosi_would_take_for_a_pattern_is_refused() -> None:
    image = resolved_image(files=(File(span=SPAN, path="/etc/a*", content=Blob.of(b"1")),))
    with pytest.raises(DiagnosticError) as caught:
        variant_of(image, files=())
    assert caught.value.diagnostics[0].code is Code.E_EMIT


def test_scripts_run_behind_the_bases() -> None:
    tree = variant_of(resolved_image(scripts=(run("one"),)), scripts=(run("one"), run("two")))
    assert [path for path in files_of(tree) if path.startswith("scripts/")] == ["scripts/21-postinst-two.sh"]
    assert "scripts/21-postinst-two.sh" in tree.text(f"{PROFILE}/mkosi.conf")
    assert "layer=" not in tree.text(f"{PROFILE}/scripts/21-postinst-two.sh")


def test_program_of_a_profile_is_run_from_the_profile() -> None:
    script = run("py", "#!/usr/bin/python3\nprint()\n")
    tree = variant_of(resolved_image(), scripts=(script,))
    text = tree.text(f"{PROFILE}/scripts/20-postinst-py.sh")
    assert f"layer=$SRCDIR/{PROFILE}\n" in text
    assert tree.text(f"{PROFILE}/scripts/recipe/20-postinst-py").startswith("#!/usr/bin/python3\n")


@pytest.mark.parametrize("scripts", [(run("one", "false"),), ()], ids=["changed", "left out"])
def test_script_that_mkosi_would_run_anyway_is_refused(scripts: tuple[Script, ...]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        variant_of(resolved_image(scripts=(run("one"),)), scripts=scripts)
    assert caught.value.diagnostics[0].code is Code.E_EMIT
    assert caught.value.diagnostics[0].span == SPAN


def test_suite_of_a_profile_replaces_the_sources() -> None:
    image = resolved_image(mirror="http://mirror.example/debian")
    tree = variant_of(image, suites=(Suite(span=SPAN, name="sid"),))
    path = "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
    assert "Suites: trixie trixie-updates sid" in tree.text(f"{PROFILE}/{path}")
    assert "sid" not in tree.text(path)


def test_targets_of_a_profile_have_their_own_manifest() -> None:
    target = OutputTarget(span=SPAN, name="azure")
    tree = variant_of(resolved_image(), output_targets=(target,))
    assert '"platform": "azure"' in tree.text(f"{PROFILE}/measurement/manifest.json")
    assert '"platform": "qemu"' in tree.text("measurement/manifest.json")


def rules_of(tree: FileTree) -> dict[str, list[str]]:
    folder = f"{PROFILE}/rules/"
    return {path.removeprefix(folder): tree.text(path).splitlines()[1:] for path in tree if path.startswith(folder)}


def debloated(*kept: str) -> ResolvedDebloat:
    unit = DebloatKind.UNIT
    return ResolvedDebloat(
        span=SPAN,
        enabled=True,
        keep=tuple(KeepDecision(span=SPAN, kind=unit, name=name, reason="test") for name in kept),
        remove=(RemoveDecision(span=SPAN, kind=unit, name="*", reason="test"),),
    )


def test_profile_keeps_more() -> None:
    tree = variant_of(resolved_image(debloat=debloated("a.service")), debloat=debloated("a.service", "b.service"))
    assert rules_of(tree) == {"keep-units": ["b.service"]}
    assert tree.text("rules/keep-units").splitlines()[1:] == ["a.service"]


def test_profile_turns_debloat_off() -> None:
    off = ResolvedDebloat(span=SPAN, enabled=False)
    tree = variant_of(resolved_image(debloat=debloated("a.service")), debloat=off)
    assert rules_of(tree) == {"debloat-off": ["off"]}


def test_profile_turns_debloat_on() -> None:
    tree = variant_of(resolved_image(), debloat=debloated("a.service"))
    assert rules_of(tree) == {"keep-units": ["a.service"], "remove-units": ["*"]}
    assert "scripts/50-finalize-debloat.sh" in files_of(tree)


def test_variant_that_removes_less_is_refused() -> None:
    less = attrs.evolve(debloated("a.service"), remove=())
    with pytest.raises(DiagnosticError) as caught:
        variant_of(resolved_image(debloat=debloated("a.service")), debloat=less)
    assert caught.value.diagnostics[0].code is Code.E_EMIT


def key_file(**fields: Any) -> File:
    return File(span=SPAN, path="/etc/key", content=Blob.of(b"k"), **fields)


@pytest.mark.parametrize(
    ("below", "above", "rules"),
    [
        ({"mode": 0o600}, {"mode": 0o640}, {"modes": ["0640 /etc/key"]}),
        ({"mode": 0o600}, {"mode": 0o644}, {"modes": ["0644 /etc/key"]}),
        ({"mode": 0o4700}, {"mode": 0o755}, {"modes": ["0755 /etc/key"]}),
        ({"owner": "app"}, {}, {"owners": ["root root /etc/key"]}),
        ({"owner": "app"}, {"owner": "web"}, {"owners": ["web root /etc/key"]}),
    ],
)
def test_other_mode_or_owner_is_said_again(
    below: dict[str, Any], above: dict[str, Any], rules: dict[str, list[str]]
) -> None:
    image = resolved_image(files=(key_file(**below),))
    script = ("owner" in below) == ("owner" in above)
    if not script:
        with pytest.raises(DiagnosticError):
            variant_of(image, files=(key_file(**above),))
        return
    tree = variant_of(image, files=(key_file(**above),))
    found = {
        path.rpartition("/")[2]: tree.text(path).splitlines()[1:]
        for path in tree
        if path.startswith(f"{PROFILE}/rules")
    }
    assert found == rules


def test_directory_that_a_variant_lacks_is_refused() -> None:
    image = resolved_image(directories=(Directory(span=SPAN, path="/srv/a"),))
    with pytest.raises(DiagnosticError) as caught:
        variant_of(image, directories=())
    assert caught.value.diagnostics[0].code is Code.E_EMIT
    assert caught.value.diagnostics[0].span == SPAN


@pytest.mark.parametrize("name", ["two words", "a,b", "../x", "", "é"])
def test_profile_name_that_mkosi_would_split_is_refused(name: str) -> None:
    image = resolved_image()
    variant = attrs.evolve(image, profiles=(name,))
    with pytest.raises(DiagnosticError) as caught:
        emit_image(CompiledImage(span=SPAN, image=image, variants=(variant,)))
    assert caught.value.diagnostics[0].code is Code.E_VALUE
