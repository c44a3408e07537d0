"""Lockfile and policy: what is refused, and with what words."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builds import local_source, resolved_build
from support.commands import EXAMPLES
from tdxc import driver, policy
from tdxc.bake import baked_variant
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan
from tdxc.ir import KNOWN_BASES, AuthoredImage, Layer, MutableRefPolicy, NetworkMode, Policy, Repository, ResolvedImage
from tdxc.lock import LockFile, check_lock, parse_lock, render_lock
from tdxc.passes.lower_image import lower_image

LOCK = LockFile(image="x", recipe_digest="ab" * 32, tools=(("mkosi", "25.3"), ("tdxvm", "0.1.0")))
SPAN = SourceSpan(file="recipe.py", line=1, column=1)


def test_a_lockfile_survives_the_round_trip() -> None:
    assert parse_lock(render_lock(LOCK), "tdx.lock") == LOCK
    assert render_lock(LOCK).endswith("}\n")


@pytest.mark.parametrize(
    ("change", "part"),
    [({"recipe_digest": "cd" * 32}, "recipe"), ({"image": "y"}, "image"), ({"tools": (("mkosi", "27.1"),)}, "mkosi")],
)  # fmt: skip
def test_a_stale_lock_names_what_changed(change: dict[str, Any], part: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        check_lock(LOCK, attrs.evolve(LOCK, **change), "tdx.lock")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_LOCKFILE
    assert caught.value.exit_status == 4
    assert any(note.message.startswith((part, f"tool {part}")) for note in diagnostic.notes)
    assert "lock" in diagnostic.fix


def test_a_tool_that_was_not_locked_is_not_held_against_a_bake() -> None:
    check_lock(attrs.evolve(LOCK, tools=()), LOCK, "tdx.lock")


@given(st.text(max_size=60))
def test_no_text_crashes_the_lock_reader(text: str) -> None:
    with pytest.raises(DiagnosticError):
        parse_lock(text, "tdx.lock")


@pytest.mark.parametrize(
    "text",
    ['{"version": 2}', '{"version": 1, "recipe_digest": "x", "tools": {}, "image": "x"}', "[" * 100000,
     '{"version": 1, "recipe_digest": "sha256:x", "tools": {"a": 1}, "image": "x"}', '{"version": 1}'],
)  # fmt: skip
def test_damaged_locks_are_diagnostics(text: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_lock(text, "tdx.lock")
    assert caught.value.diagnostics[0].code is Code.E_LOCKFILE


def resolved(rules: Policy | None, **fields: object) -> ResolvedImage:
    layer = Layer(policy=rules, repositories=fields.pop("repositories", ()))  # type: ignore[arg-type]
    image = AuthoredImage(name="x", base=KNOWN_BASES[1], layer=layer, span=SPAN, **fields)  # type: ignore[arg-type]
    return lower_image(image)


def codes(diagnostics: tuple[Diagnostic, ...]) -> list[tuple[str, str]]:
    return [(d.code.value, d.message) for d in diagnostics]


def test_without_a_policy_nothing_is_said() -> None:
    assert policy.evaluate_bake(resolved(None), policy.Invocation(frozen=False)) == ()


def test_mutable_references_are_warned_of_or_refused() -> None:
    warned = codes(policy.evaluate_compile(resolved(Policy())))
    assert [code for code, _ in warned] == ["W_MUTABLE_REF"]
    refused = codes(policy.evaluate_compile(resolved(Policy(mutable_ref_policy=MutableRefPolicy.ERROR))))
    assert [code for code, _ in refused] == ["E_POLICY"]
    assert "mutable_ref_policy='error'" in refused[0][1]
    pinned = resolved(Policy(mutable_ref_policy=MutableRefPolicy.ERROR), snapshot="20251113T083151Z")
    assert policy.evaluate_compile(pinned) == ()


def test_a_repository_without_a_key_has_no_integrity() -> None:
    bare = (Repository(name="extra", uri="https://example.org/apt", suites=("stable",), span=SPAN),)
    rules = Policy(require_integrity=True, mutable_ref_policy=MutableRefPolicy.ALLOW)
    found = policy.evaluate_compile(resolved(rules, repositories=bare))
    assert codes(found)[0][0] == "E_POLICY"
    assert "has no key" in found[0].message


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def with_build(rules: Policy | None, **changes: Any) -> ResolvedImage:
    return attrs.evolve(resolved(rules, snapshot="20251113T083151Z"), builds=(resolved_build(**changes),))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": local_source(git="https://example.org/x", rev="main")}, "'main' of https://example.org/x"),
        ({"source": local_source(git="https://example.org/x", rev=COMMIT[:12])}, COMMIT[:12]),
        ({"network": True}, "has the network while it compiles"),
    ],
)
def test_builds_that_can_change_are_mutable_and_unverified(changes: dict[str, Any], words: str) -> None:
    warned = codes(policy.evaluate_compile(with_build(Policy(), **changes)))
    assert [code for code, _ in warned] == ["W_MUTABLE_REF"]
    assert words in warned[0][1]
    rules = Policy(mutable_ref_policy=MutableRefPolicy.ERROR, require_integrity=True)
    refused = codes(policy.evaluate_compile(with_build(rules, **changes)))
    assert [code for code, _ in refused] == ["E_POLICY", "E_POLICY"]
    assert codes(policy.evaluate_compile(with_build(None, **changes))) == warned
    allowed = attrs.evolve(Policy(mutable_ref_policy=MutableRefPolicy.ALLOW), span=attrs.evolve(SPAN, line=2))
    assert policy.evaluate_compile(with_build(allowed, **changes)) == ()


def test_a_full_commit_and_a_lock_file_are_pinned() -> None:
    rules = Policy(mutable_ref_policy=MutableRefPolicy.ERROR, require_integrity=True, network_mode=NetworkMode.OFFLINE)
    source = local_source(git="https://example.org/x", rev=COMMIT)
    assert policy.evaluate_compile(with_build(rules, source=source, fetch="go mod download")) == ()


def test_an_offline_image_has_no_build_with_the_network() -> None:
    rules = Policy(network_mode=NetworkMode.OFFLINE, mutable_ref_policy=MutableRefPolicy.ALLOW)
    (found,) = policy.evaluate_compile(with_build(rules, network=True))
    assert (found.code, found.message) == (
        Code.E_POLICY,
        "policy network_mode='offline': build 'tool' has the network while it compiles",
    )


def test_bakes_are_held_to_lock_and_network_mode() -> None:
    rules = Policy(
        require_frozen_lock=True, network_mode=NetworkMode.OFFLINE, mutable_ref_policy=MutableRefPolicy.ALLOW
    )
    found = policy.evaluate_bake(resolved(rules), policy.Invocation(frozen=False))
    assert [d.message.split(":")[0] for d in found] == ["policy require_frozen_lock", "policy network_mode='offline'"]
    assert policy.evaluate_bake(resolved(rules), policy.Invocation(frozen=True, cached_only=True)) == ()


@pytest.mark.parametrize("profiles", [(), ("dev",), ("azure", "dev")])
def test_the_variant_that_is_baked_is_the_one_that_its_profiles_make(profiles: tuple[str, ...]) -> None:
    authored = driver.load_recipe(str(EXAMPLES / "full_api.py")).image
    compilation = driver.compile_image(authored)
    assert baked_variant(compilation, profiles) == driver.analyse(authored, profiles=profiles)[0].image


def test_a_profile_that_does_not_exist_is_not_baked() -> None:
    compilation = driver.compile_image(driver.load_recipe(str(EXAMPLES / "full_api.py")).image)
    with pytest.raises(DiagnosticError, match="no profile 'nosuch'"):
        baked_variant(compilation, ("nosuch",))
