"""A profile inherits the image's policy and may tighten it: of each rule, in Python and in YAML, alone and together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tdx import Image
from tdx.modules import Devtools
from tdx.policy import Policy
from tdxc import driver, policy, records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError
from tdxc.ir import POLICY_RULES, MutableRefPolicy, ResolvedImage, is_looser
from tdxc.ir import Policy as PolicyNode

SNAPSHOT = "20251113T083151Z"
RULES = sorted(POLICY_RULES)
STEPS = [
    (rule, values[low], values[high])
    for rule, values in sorted(POLICY_RULES.items())
    for low in range(len(values))
    for high in range(low + 1, len(values))
]
"""Every pair of a rule's values, the looser one first."""


def recipe(base: dict[str, Any] | None, **profiles: dict[str, Any] | None) -> Image:
    image = Image("x", snapshot=SNAPSHOT)
    if base is not None:
        image.set_policy(Policy(**base))
    for name, rules in profiles.items():
        with image.profile(name):
            image.install("curl")
            if rules is not None:
                image.set_policy(Policy(**rules))
    return image


def resolved(image: Image, *profiles: str) -> ResolvedImage:
    compiled, _ = driver.analyse(image.freeze(), profiles=profiles)
    return compiled.image


def refused(image: Image) -> Diagnostic:
    with pytest.raises(DiagnosticError) as caught:
        driver.analyse(image.freeze())
    (found,) = caught.value.diagnostics
    return found


def test_every_rule_is_ordered() -> None:
    assert set(POLICY_RULES) == {field.name for field in records.fields_of(PolicyNode) if field.eq}


@pytest.mark.parametrize(("rule", "loose", "strict"), STEPS)
@pytest.mark.parametrize("rules", [None, {}])
def test_a_profile_that_does_not_speak_of_a_rule_keeps_the_image_s(
    rule: str, loose: Any, strict: Any, rules: dict[str, Any] | None
) -> None:
    for value in (loose, strict):
        variant = resolved(recipe({rule: value}, dev=rules), "dev")
        assert getattr(variant.policy, rule) == value


@pytest.mark.parametrize(("rule", "loose", "strict"), STEPS)
def test_a_profile_tightens(rule: str, loose: Any, strict: Any) -> None:
    image = recipe({rule: loose}, release={rule: strict})
    assert getattr(resolved(image).policy, rule) == loose
    assert getattr(resolved(image, "release").policy, rule) == strict


@pytest.mark.parametrize(("rule", "loose", "strict"), STEPS)
def test_a_profile_that_loosens_is_refused_with_both_places(rule: str, loose: Any, strict: Any) -> None:
    found = refused(recipe({rule: strict}, dev={rule: loose}))
    assert found.code is Code.E_POLICY
    assert found.message.startswith(f"policy {rule}: profile 'dev' sets ")
    assert found.notes[0].message == "the image's rule is set here"
    assert found.fix


@pytest.mark.parametrize(("rule", "loose", "strict"), STEPS)
@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_of_two_profiles_the_stricter_rule_holds(rule: str, loose: Any, strict: Any, order: tuple[str, str]) -> None:
    rules = dict(zip(order, ({rule: loose}, {rule: strict}), strict=True))
    image = recipe(None, one=rules["one"], two=rules["two"])
    assert getattr(resolved(image, "one", "two").policy, rule) == strict
    assert getattr(resolved(image, order[0]).policy, rule) == loose


@pytest.mark.parametrize("rule", RULES)
def test_equal_rules_are_no_contradiction(rule: str) -> None:
    for value in POLICY_RULES[rule]:
        assert getattr(resolved(recipe({rule: value}, dev={rule: value}), "dev").policy, rule) == value


def test_what_nobody_says_is_the_loosest_but_for_changing_references() -> None:
    loosest = {rule: values[0] for rule, values in POLICY_RULES.items()}
    expected = {**loosest, "mutable_ref_policy": MutableRefPolicy.WARN}
    for made in (resolved(recipe({})).policy, resolved(recipe(None, dev={}), "dev").policy):
        assert {rule: getattr(made, rule) for rule in RULES} == expected
    assert resolved(recipe(None)).policy.mutable_ref_policy is MutableRefPolicy.ALLOW


def test_an_empty_policy_in_a_profile_is_no_way_around_production() -> None:
    image = recipe({"production": True}, dev={})
    with image.profile("dev"):
        Devtools(root_password="random").apply(image)  # noqa: S106 - a word that asks for one
    found = policy.evaluate_bake(resolved(image, "dev"), policy.Invocation(frozen=True))
    assert {diagnostic.code for diagnostic in found} == {Code.E_POLICY}
    assert all(diagnostic.message.startswith("policy production: ") for diagnostic in found)
    assert policy.evaluate_bake(resolved(image), policy.Invocation(frozen=True)) == ()


def test_a_violation_names_the_line_of_its_own_rule(tmp_path: Path) -> None:
    path = tmp_path / "recipe.py"
    path.write_text(
        "from tdx import Image\n"
        "from tdx.policy import Policy\n"
        f"img = Image('x', snapshot='{SNAPSHOT}')\n"
        "img.set_policy(Policy(require_frozen_lock=True))\n"
        "with img.profile('release'):\n"
        "    img.set_policy(Policy(network_mode='offline'))\n"
    )
    compiled, _ = driver.analyse(driver.load_recipe(str(path)).image, profiles=("release",))
    found = policy.evaluate_bake(compiled.image, policy.Invocation(frozen=False))
    assert [(d.message.partition(":")[0], d.span.line) for d in found] == [
        ("policy require_frozen_lock", 4),
        ("policy network_mode='offline'", 6),
    ]
    assert [d.notes for d in found] == [(), ()]


def test_both_forms_of_a_recipe_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    text = (
        "name: x\nbase: debian/trixie\npolicy: {production: true}\nprofiles:\n  dev:\n    policy: {production: false}\n"
    )
    path.write_text(text)
    with pytest.raises(DiagnosticError) as caught:
        driver.analyse(driver.load_recipe(str(path)).image)
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.line) == (Code.E_POLICY, 6)
    assert "sets False, which is looser than the image's True" in found.message
    path.write_text(text.replace("{production: false}", "{require_integrity: true}"))
    compiled, _ = driver.analyse(driver.load_recipe(str(path)).image, profiles=("dev",))
    assert (compiled.image.policy.production, compiled.image.policy.require_integrity) == (True, True)


def test_a_recipe_overrides_its_modules_and_leaves_what_it_does_not_speak_of() -> None:
    image = Image("x", snapshot=SNAPSHOT)
    with image.module("Strict"):
        image.set_policy(Policy(production=True, require_integrity=True))
    image.set_policy(Policy(require_integrity=False))
    made = resolved(image).policy
    assert (made.production, made.require_integrity) == (True, False)


def test_a_module_in_a_profile_loosens_as_little_as_the_profile_itself() -> None:
    image = recipe({"production": True})
    with image.profile("dev"), image.module("Loose"):
        image.set_policy(Policy(production=False))
    assert "profile 'dev' sets False" in refused(image).message


def test_what_is_not_said_is_never_looser() -> None:
    assert not any(is_looser(rule, PolicyNode(), PolicyNode()) for rule in RULES)
