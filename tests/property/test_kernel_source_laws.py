"""Laws of a kernel from source: what the recipe asks for is there or refused, what the image needs is always there."""

from __future__ import annotations

import functools

from hypothesis import example, given
from hypothesis import strategies as st
from support.authored import at, resolved, run
from tdxc.grammar import parse_kconfig
from tdxc.ir import KconfigOption, Kernel, ResolvedImage
from tdxc.passes.kernel_fragments import default_options, required_options
from tdxc.passes.kernel_options import satisfies
from tdxc.passes.kernel_source import config_text
from tdxc.passes.resolve_kernel import ResolveKernel


@functools.cache
def plain() -> ResolvedImage:
    return resolved()


@functools.cache
def known() -> list[str]:
    """Names of all kinds: required ones, our defaults, and others."""
    ours = {option.name for option in (*required_options(plain()), *default_options(plain()))}
    return [*sorted(ours), "MODULES", "TLS", "SOUND", "HZ"]


options = st.dictionaries(
    st.deferred(lambda: st.sampled_from(known())), st.sampled_from(["y", "m", "n", "7"]), max_size=6
)


@given(options)
@example({"MODULES": "y", "64BIT": "m"})
def test_the_recipes_word_holds_or_is_refused_and_needs_are_always_met(asked: dict[str, str]) -> None:
    config = tuple(KconfigOption(span=at(6), name=name, value=value) for name, value in sorted(asked.items()))
    image = resolved(kernel=Kernel(span=at(5), version="6.12", config=config))
    after, diagnostics = run(ResolveKernel(), image)
    if diagnostics:
        assert all(str(diagnostic.span) == "recipe.py:6:1" and diagnostic.fix for diagnostic in diagnostics)
        return
    made = {option.name: option.value for option in (*after.kernel.base_options, *after.kernel.options)}
    assert len(made) == len(after.kernel.base_options) + len(after.kernel.options)
    assert made.items() >= asked.items()
    for need in required_options(image):
        assert satisfies(need.value, made.get(need.name, "")) or need.name == "STRICT_MODULE_RWX"
    assert ("m" in made.values()) <= (asked.get("MODULES") == "y")
    assert {o.name: o.value for o in parse_kconfig(config_text(after.kernel))} == made


@given(options)
def test_every_option_of_the_configuration_has_to_survive(asked: dict[str, str]) -> None:
    config = tuple(KconfigOption(span=at(6), name=name, value=value) for name, value in sorted(asked.items()))
    after, diagnostics = run(ResolveKernel(), resolved(kernel=Kernel(span=at(5), version="6.12", config=config)))
    if diagnostics:
        return
    files = {file.path: file.content.data.decode() for file in after.builds[0].source.files}
    rows = [line.split("\t")[1:3] for line in files["requirements"].splitlines()]
    assert sorted(rows) == sorted([o.name, o.value] for o in parse_kconfig(files["config"]))
