"""The pipeline: order, verification, observers, and everything reported at once."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs
import pytest
from tdxc import driver
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, SourceSpan
from tdxc.ir import KNOWN_BASES, AuthoredImage, Layer, Package, Profile, ResolvedImage
from tdxc.observers import DumpIr, TimePasses
from tdxc.passes import AUTHORED_PASSES, RESOLVED_PASSES
from tdxc.passes.base import Pass, PassContext
from tdxc.pipeline import check_order, run_passes

SPAN = SourceSpan(file="recipe.py", line=3, column=1)
IMAGE = AuthoredImage(name="x", base=KNOWN_BASES[1], layer=Layer())


@attrs.frozen(kw_only=True)
class AddPackage:
    name: ClassVar[str] = "add-package"
    description: ClassVar[str] = "adds a package"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"package"})
    span: SourceSpan = SPAN

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        packages = (*image.layer.packages, Package(name="jq", span=self.span))
        return attrs.evolve(image, layer=attrs.evolve(image.layer, packages=packages))


@attrs.frozen(kw_only=True)
class FindFaults:
    name: ClassVar[str] = "find-faults"
    description: ClassVar[str] = "finds two"
    requires: ClassVar[frozenset[str]] = frozenset({"package"})
    establishes: ClassVar[frozenset[str]] = frozenset()

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        ctx.sink.add(Code.E_VALUE, "second", SourceSpan(file="recipe.py", line=9, column=1))
        ctx.sink.add(Code.W_MUTABLE_REF, "first", SourceSpan(file="recipe.py", line=2, column=1))
        return image


def test_a_pass_before_what_it_needs_is_refused() -> None:
    with pytest.raises(DiagnosticError, match=r"find-faults.*package"):
        check_order((FindFaults(), AddPackage()))
    assert check_order((AddPackage(), FindFaults())) == {"package"}


def test_the_real_order_holds() -> None:
    check_order(RESOLVED_PASSES, check_order(AUTHORED_PASSES))


def test_names_are_unique_and_told() -> None:
    passes: tuple[Pass[AuthoredImage] | Pass[ResolvedImage], ...] = (*AUTHORED_PASSES, *RESOLVED_PASSES)
    assert len({pass_.name for pass_ in passes}) == len(passes)
    assert all(pass_.description and pass_.name.islower() for pass_ in passes)


@attrs.frozen(kw_only=True)
class Stumble:
    name: ClassVar[str] = "stumble"
    description: ClassVar[str] = "raises"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset()
    error: Exception = attrs.field(factory=lambda: RuntimeError("over the broken image"))

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        raise self.error


def test_faults_of_all_passes_come_at_once_in_source_order() -> None:
    timing = TimePasses()
    late = DiagnosticError.of(Code.E_PATH, "third", SourceSpan(file="recipe.py", line=11, column=1))
    with pytest.raises(DiagnosticError) as caught:
        run_passes(IMAGE, (FindFaults(), AddPackage(), Stumble(error=late)), DiagnosticSink(), (timing,))
    assert [d.message for d in caught.value.diagnostics] == ["first", "second", "third"]
    assert list(timing.seconds) == ["find-faults", "add-package"]
    assert "all passes" in timing.table()


def test_a_crash_after_an_error_is_its_consequence_and_before_one_a_crash() -> None:
    with pytest.raises(DiagnosticError) as caught:
        run_passes(IMAGE, (FindFaults(), Stumble()), DiagnosticSink())
    assert len(caught.value.diagnostics) == 2
    with pytest.raises(RuntimeError):
        run_passes(IMAGE, (Stumble(), FindFaults()), DiagnosticSink())


def test_a_pass_that_breaks_the_ir_is_an_internal_error_naming_it() -> None:
    broken = AddPackage(span=SourceSpan())
    with pytest.raises(DiagnosticError, match="pass 'add-package' broke the IR") as caught:
        run_passes(IMAGE, (broken,), DiagnosticSink())
    assert caught.value.exit_status == 70
    twice = attrs.evolve(IMAGE, profiles=(Profile(name="a", layer=Layer()), Profile(name="a", layer=Layer())))
    with pytest.raises(DiagnosticError, match="two profiles"):
        run_passes(twice, (AddPackage(),), DiagnosticSink())


def test_dumps_are_numbered_and_hold_the_change(tmp_path: Path) -> None:
    run_passes(IMAGE, (AddPackage(), AddPackage()), DiagnosticSink(), (DumpIr(tmp_path, "all"),))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "01-add-package.diff", "01-add-package.ir", "02-add-package.diff", "02-add-package.ir"]  # fmt: skip
    assert "+          name: 'jq'" in (tmp_path / "01-add-package.diff").read_text()
    run_passes(IMAGE, (AddPackage(),), DiagnosticSink(), (DumpIr(tmp_path / "none", "other"),))
    assert not (tmp_path / "none").exists()


def test_two_profiles_that_clash_only_together_are_a_diagnostic(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from tdx import Image\n"
        "img = Image('x')\n"
        "with img.profile('a'):\n"
        "    img.file('/etc/same', content='a')\n"
        "with img.profile('b'):\n"
        "    img.file('/etc/same', content='b')\n"
    )
    image = driver.load_recipe(str(recipe)).image
    driver.analyse(image)
    with pytest.raises(DiagnosticError) as caught:
        driver.analyse(image, profiles=("a", "b"))
    assert caught.value.diagnostics[0].code is Code.E_CONFLICT
    assert "/etc/same" in str(caught.value)
