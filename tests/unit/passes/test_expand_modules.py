from typing import Any

from support.authored import at, authored, run
from tdxc.diagnostics import Code
from tdxc.ir import (
    BootStep,
    Debloat,
    FirewallRuleText,
    Group,
    Layer,
    ModuleUse,
    Network,
    Package,
    Service,
    Setting,
    User,
)
from tdxc.passes.expand_modules import ExpandModules


def use(name: str, line: int, **declarations: Any) -> ModuleUse:
    return ModuleUse(span=at(line), name=name, layer=Layer(span=at(line), **declarations))


def package(name: str, line: int) -> Package:
    return Package(span=at(line), name=name)


def test_nested_modules_are_flattened_with_their_provenance() -> None:
    inner = use("Inner", 11, packages=(Package(name="deep"),))
    outer = use("Outer", 10, packages=(package("middle", 10),), modules=(inner,))
    image, found = run(ExpandModules(), authored(packages=(package("own", 4),), modules=(outer,)))
    assert found == ()
    assert image.layer.modules == ()
    assert image.layer.module_names == ("Outer", "Inner")
    by_name = {p.name: (str(p.span), p.cause) for p in image.layer.packages}
    assert by_name == {
        "own": ("recipe.py:4:1", ""),
        "middle": ("recipe.py:10:1", "module Outer"),
        "deep": ("recipe.py:11:1", "module Inner"),
    }


def test_modules_of_profiles_are_flattened_too() -> None:
    layer = Layer(span=at(20), modules=(use("Azure", 21, cloud=Setting(span=at(21), value="azure")),))
    image, _ = run(ExpandModules(), authored(profiles={"azure": layer}))
    assert image.profiles[0].layer.cloud == Setting(value="azure")
    assert image.profiles[0].layer.module_names == ("Azure",)
    assert image.layer.cloud is None


def test_the_recipe_overrides_a_modules_scalar() -> None:
    modules = (
        use("A", 10, cloud=Setting(span=at(10), value="azure")),
        use("B", 11, cloud=Setting(span=at(11), value="gcp")),
    )
    image, found = run(ExpandModules(), authored(cloud=Setting(span=at(3), value=""), modules=modules))
    assert found == ()
    assert image.layer.cloud == Setting(value="")


def test_two_modules_that_set_one_scalar_differently_contradict() -> None:
    modules = (
        use("A", 10, cloud=Setting(span=at(10), value="azure")),
        use("B", 11, cloud=Setting(span=at(11), value="gcp")),
    )
    _, (found,) = run(ExpandModules(), authored(modules=modules))
    assert found.code is Code.E_CONFLICT
    assert (str(found.span), str(found.notes[0].span)) == ("recipe.py:11:1", "recipe.py:10:1")
    assert "module B and module A set 'cloud'" in found.message


def test_two_modules_that_agree_or_can_be_merged_do_not() -> None:
    modules = (
        use("A", 10, cloud=Setting(span=at(10), value="gcp"), debloat=Debloat(span=at(10), keep_units=("a.service",))),
        use("B", 11, cloud=Setting(span=at(11), value="gcp"), debloat=Debloat(span=at(11), keep_units=("b.service",))),
        use("C", 12, network=Network(span=at(12), vsock=True)),
    )
    image, found = run(ExpandModules(), authored(modules=modules, network=Network(span=at(2), resolver=True)))
    assert found == ()
    assert image.layer.debloat == Debloat(keep_units=("a.service", "b.service"))
    assert image.layer.network == Network(vsock=True, resolver=True)


def test_what_modules_share_is_kept_once() -> None:
    shared: dict[str, Any] = {"groups": (Group(name="tdx"),), "users": (User(name="tdxs", group="tdx"),)}
    image, _ = run(ExpandModules(), authored(modules=(use("A", 10, **shared), use("B", 11, **shared))))
    assert [str(g.span) for g in image.layer.groups] == ["recipe.py:10:1"]
    assert len(image.layer.users) == 1


def test_boot_steps_and_services_keep_their_order() -> None:
    modules = (
        use("A", 10, boot_steps=(BootStep(name="keys", script="a", priority=10, index=0),)),
        use("B", 11, boot_steps=(BootStep(name="disks", script="b", priority=20, index=1),)),
    )
    own = (BootStep(span=at(12), name="mine", script="c", index=2),)
    services = (Service(span=at(13), name="s", exec=("/x",)),)
    image, _ = run(ExpandModules(), authored(modules=modules, boot_steps=own, services=services))
    assert sorted(image.layer.boot_steps, key=lambda step: step.index) == list(image.layer.boot_steps)
    assert image.layer.services == services


def test_firewall_rules_of_profiles_say_whose_they_are() -> None:
    def network(line: int, text: str) -> Network:
        return Network(span=at(line), firewall_rules=(FirewallRuleText(span=at(line), text=text),))

    dev = Layer(
        span=at(20), network=network(21, "ACCEPT tcp 22"), modules=(use("M", 22, network=network(22, "DROP icmp")),)
    )
    image, _ = run(ExpandModules(), authored(network=network(5, "DROP all"), profiles={"dev": dev}))
    assert image.layer.network is not None
    assert [rule.layer for rule in image.layer.network.firewall_rules] == [""]
    assert image.profiles[0].layer.network is not None
    assert {rule.layer for rule in image.profiles[0].layer.network.firewall_rules} == {"dev"}


def test_an_image_without_modules_is_unchanged() -> None:
    image = authored(packages=(package("a", 3),), profiles={"p": Layer(span=at(9))})
    after, found = run(ExpandModules(), image)
    assert (after, found) == (image, ())
