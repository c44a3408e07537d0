"""Laws of builds: every value reaches its script as one word, and every input counts, and nothing else does."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builds import authored_build, local_source, run_scripts
from support.resolved_images import SPAN, base, resolved_image
from tdxc.ir import (
    Artifact,
    Blob,
    Build,
    BuildLanguage,
    CompiledImage,
    ResolvedImage,
    SourceFile,
    Toolchain,
)
from tdxc.passes.builds import lower_build
from tdxc_emitters import emit_image
from tdxc_emitters.mkosi.builds import declaration

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_line = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
_name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True).filter(lambda name: not name.endswith(".conf"))


def image_of(build: Build, **changes: Any) -> ResolvedImage:
    image = resolved_image(**changes)
    return attrs.evolve(image, authored_builds=(build,), builds=(lower_build(image.base, build),))


def inputs(build: Build, **changes: Any) -> dict[str, str]:
    """What ``.tdxc/builds.json`` says of the build in an image of its own."""
    compiled = CompiledImage(span=SPAN, image=image_of(build, **changes))
    found = declaration(compiled, emit_image(compiled))["builds"]
    assert isinstance(found, dict)
    entry: dict[str, dict[str, str]] = found[build.name]
    return entry["inputs"]


@given(value=_text, name=_name, file=_line.filter(lambda text: text.strip("./") and "/" not in text))
@settings(deadline=None, max_examples=25)
def test_values_reach_their_scripts_as_they_are(value: str, name: str, file: str) -> None:
    artifacts = (Artifact(span=SPAN, source=file, dest=f"/usr/share/{file}"),)
    build = authored_build(
        name=name,
        artifacts=artifacts,
        environment=(("VALUE", value), ("FILE", file)),
        build_script='printf %s "$VALUE" > "./$FILE"',
    )
    image = image_of(build)
    folder = Path(tempfile.mkdtemp())
    try:
        dest = run_scripts(emit_image(CompiledImage(span=SPAN, image=image)), name, folder)
        assert (dest / "usr/share" / file).read_bytes() == value.encode()
    finally:
        shutil.rmtree(folder)


@given(
    value=_line.filter(bool),
    language=st.sampled_from([BuildLanguage.GO, BuildLanguage.RUST, BuildLanguage.DOTNET, BuildLanguage.C]),
)
@settings(deadline=None, max_examples=60)
def test_every_script_is_valid_shell_whatever_the_values_are(value: str, language: BuildLanguage) -> None:
    """Every text of a build is a value: none of it can open a quote, a substitution or a command."""
    build = authored_build(
        language,
        source=local_source(git=value, rev=value, subdir=value.replace("/", "-").strip(".") or "x"),
        toolchain=Toolchain(span=SPAN, url=value, sha256=value, version=value),
        artifacts=(Artifact(span=SPAN, source="", dest="/usr/bin/x"),),
        package=value,
        program=value,
        features=(value, value),
        options=(value,),
        ldflags=value,
        environment=(("A", value),),
        patches=(SourceFile(span=SPAN, path="01-x.patch", content=Blob.of(b"")),),
        system="cmake" if language is BuildLanguage.C else "",
    )
    lowered = lower_build(base(), build)
    for text in (lowered.fetch, lowered.compile, lowered.version_command):
        done = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


PROGRAM = {"go.mod": "module x\n", "main.go": "package main\n", "other/main.go": "package main\n"}

CHANGES: list[dict[str, Any]] = [
    {"environment": (("A", "2"),)},
    {"build_deps": ("libx-dev",)},
    {"ldflags": "-X"},
    {"features": ("x",)},
    {"package": "./other"},
    {"test": "true"},
    {"network": True},
    {"cgo": True},
    {"toolchain": Toolchain(span=SPAN, version="1.24")},
    {"toolchain": Toolchain(span=SPAN, url="https://example.org/go.tar.gz", sha256="0" * 64)},
    {"toolchain": Toolchain(span=SPAN, url="https://example.org/go.tar.gz", sha256="1" * 64)},
    {"patches": (SourceFile(span=SPAN, path="01-x.patch", content=Blob.of(b"x")),)},
    {"patches": (SourceFile(span=SPAN, path="01-x.patch", content=Blob.of(b"y")),)},
    {"artifacts": (Artifact(span=SPAN, source="", dest="/usr/bin/other"),)},
    {"artifacts": (Artifact(span=SPAN, source="", dest="/usr/bin/x", mode=0o700),)},
    {"source": local_source({**PROGRAM, "go.mod": "module y\n"})},
    {"source": local_source({**PROGRAM, "more.go": ""})},
    {"source": local_source(git="https://example.org/x", rev="a" * 40)},
    {"source": local_source(git="https://example.org/x", rev="b" * 40)},
    {"source": local_source(git="https://example.org/y", rev="a" * 40)},
    {"source": local_source(git="https://example.org/x", rev="a" * 40, subdir="s")},
    {"source": local_source(tarball="https://example.org/x.tar.gz", sha256="a" * 64)},
    {"source": local_source(tarball="https://example.org/x.tar.gz", sha256="b" * 64)},
    {
        "source": attrs.evolve(
            local_source(),
            files=tuple(attrs.evolve(file, executable=True) for file in local_source(PROGRAM).files),
        )
    },
]
"""Changes of a Go build that all differ from each other and from none."""


def go_build(**changes: Any) -> Build:
    fields = {"source": local_source(PROGRAM), "artifacts": _program("/usr/bin/x")}
    return authored_build(BuildLanguage.GO, **{**fields, **changes})


def _program(dest: str) -> tuple[Artifact, ...]:
    return (Artifact(span=SPAN, source="", dest=dest),)


def test_every_input_counts() -> None:
    maps = [inputs(go_build(**change)) for change in ({}, *CHANGES)]
    maps += [inputs(go_build(), reference="ubuntu/noble"), inputs(go_build(name="other"))]
    unique = {tuple(sorted(found.items())) for found in maps}
    assert len(unique) == len(maps)


@given(
    name=st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    docs=st.booleans(),
    version=st.from_regex(r"[0-9]{0,3}", fullmatch=True),
    snapshot=st.sampled_from(["", "20251113T083151Z"]),
)
@settings(deadline=None, max_examples=15)
def test_nothing_of_the_image_counts(name: str, docs: bool, version: str, snapshot: str) -> None:
    found = inputs(go_build(), name=name, docs=docs, version=version, snapshot=snapshot)
    assert found == inputs(go_build())


@given(change=st.sampled_from(CHANGES))
@settings(deadline=None, max_examples=10)
def test_the_place_in_the_recipe_does_not_count(change: dict[str, Any]) -> None:
    moved = attrs.evolve(go_build(**change), span=attrs.evolve(SPAN, line=99))
    assert inputs(moved) == inputs(go_build(**change))
