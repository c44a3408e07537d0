"""Whatever a recipe says comes out of mkosi's own parser as it went in, or is refused."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.mkosi_summary import summarise
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import DiagnosticError
from tdxc.ir import Blob, CompiledImage, File, KernelArgument, Package, ResolvedImage, Script, ScriptPhase
from tdxc.tree import FileTree, TreeFile
from tdxc_emitters import emit_image

few = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
NASTY = [
    "a b",
    "it's",
    '"q"',
    "$HOME",
    "${x}",
    "%n",
    "50%",
    "%%",
    "é",
    "日本",
    "a,b",
    "a:b",
    "a#b",
    "-x",
    "[Content]",
    "~x",
]
words = st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec="utf-8", exclude_characters="/\0"), max_size=12))


def emitted(image: ResolvedImage) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=image))


def accepted(make: Any, values: list[str]) -> list[str]:
    """Those values that are not refused; each is tried in an image of its own."""
    kept = []
    for value in dict.fromkeys(values):
        try:
            emitted(make([value]))
        except DiagnosticError:
            continue
        kept.append(value)
    return kept


def with_packages(values: list[str]) -> ResolvedImage:
    return resolved_image(packages=tuple(Package(span=SPAN, name=value) for value in sorted(values)))


def with_words(values: list[str]) -> ResolvedImage:
    image = resolved_image()
    cmdline = tuple(KernelArgument(span=SPAN, text=value) for value in values)
    return attrs.evolve(image, kernel=attrs.evolve(image.kernel, cmdline=cmdline))


@pytest.mark.integration
@given(values=st.lists(words, min_size=10, max_size=30))
@example(values=NASTY)
@example(values=["a", "[", "[Match]", "x"])
@few
def test_packages_and_command_line(values: list[str]) -> None:
    packages = accepted(with_packages, values)
    arguments = [value for value in accepted(with_words, values) if len(value.split()) == 1]
    image = attrs.evolve(with_words(arguments), packages=with_packages(packages).packages)
    summary = summarise(emitted(image), "trixie")
    assert summary.complaints == ()
    assert sorted(summary.image["Packages"]) == sorted({*packages, "systemd-boot-efi"})
    assert summary.image["KernelCommandLine"] == arguments


@pytest.mark.integration
@given(name=words, version=words)
@few
def test_names_and_versions(name: str, version: str) -> None:
    try:
        tree = emitted(resolved_image(name=name, version=version))
    except DiagnosticError:
        return
    found = summarise(tree, "trixie")
    assert found.complaints == ()
    assert found.image["ImageId"] == name
    assert found.image["ImageVersion"] == (version or None)


@given(name=words, data=st.binary(max_size=40))
@settings(deadline=None, max_examples=60)
def test_files_come_out_exactly(name: str, data: bytes) -> None:
    path = f"/srv/x{name}"
    try:
        tree = emitted(resolved_image(files=(File(span=SPAN, path=path, content=Blob.of(data), mode=0o600),)))
    except DiagnosticError:
        assert "\n" in name
        return
    assert tree[f"mkosi.extra{path}"] == TreeFile(data=data)
    assert tree["rules/modes"] == TreeFile(
        data=f"# Modes other than 0644 and 0755: mode and path.\n0600 {path}\n".encode()
    )


@given(name=words, text=words)
@settings(deadline=None, max_examples=60)
def test_script_text_is_kept_and_its_name_is_only_a_comment(name: str, text: str) -> None:
    script = Script(span=SPAN, phase=ScriptPhase.POSTINST, name=name, text=f"echo {text}")
    tree = emitted(resolved_image(scripts=(script,)))
    (path,) = [path for path in tree if path.startswith("scripts/20-postinst-")]
    lines = tree.text(path).split("\n")
    assert lines[0] == "#!/bin/bash"
    assert lines[1].startswith("# Run '")
    assert lines[2] == "set -euo pipefail"
    assert tree.text(path).endswith(f"\necho {text}\n") or text.endswith("\n")
