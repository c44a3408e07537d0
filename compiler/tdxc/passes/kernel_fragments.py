"""What is asked of a kernel's configuration, by whom and why: our fragments, those of the recipe, and their merging.

Fragments under ``tdxc/kconfig/`` hold what a feature requires of any kernel. Those under ``tdxc/kconfig/source/`` hold
what a kernel that is configured from nothing needs beside it; a recipe may set these otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, Note
from tdxc.grammar import check_option, parse_kconfig, print_option
from tdxc.ir import KconfigFragment, KconfigOption, Kernel, Node, ResolvedImage
from tdxc.passes.kernel_modules import KERNEL_FEATURES, KernelFeature, wanted_features
from tdxc.passes.kernel_options import contradictions, fragment_options, fragment_text, merge_options, satisfies

RECIPE_OPTIONS = "99-recipe"
"""Name of the fragment that holds the options of ``config=``."""

FIRST_OWN, FIRST_GIVEN = 10, 60
"""Numbers of the fragments: ours have fixed ones, so that a profile that adds one renames none; the recipe's follow."""

MODULES = "modules"
"""Name of the fragment for kernels from source that load modules, which no feature asks for but the recipe."""

SOURCE_FOLDER = Path(__file__).parent.parent / "kconfig" / "source"
"""Package data beside the code, one file for each feature that has any, named after it."""


def required_options(image: ResolvedImage) -> list[KconfigOption]:
    """What the image's features require of any kernel, each with its reason."""
    return [
        records.evolve(option, span=node.span, cause=f"kernel feature '{feature.name}': {feature.reason}")
        for feature, node in wanted_features(image)
        if feature.fragment
        for option in fragment_options(feature.fragment)
    ]


def default_options(image: ResolvedImage) -> list[KconfigOption]:
    """What a kernel from source gets beside that, unless the recipe says otherwise; the reason is its comment."""
    return [
        records.evolve(option, span=node.span, cause=f"kernel feature '{feature.name}': {option.cause}")
        for feature, node in wanted_features(image)
        for option in source_options(feature.name)
    ]


@functools.cache
def source_text(feature: str) -> str:
    """The text of a feature's fragment for kernels from source; empty for a feature without one."""
    path = SOURCE_FOLDER / f"{feature}.config"
    return path.read_text(encoding="utf-8") if path.exists() else ""


@functools.cache
def source_options(feature: str) -> tuple[KconfigOption, ...]:
    """Its options, the ``cause`` of each the comment above it."""
    options: list[KconfigOption] = []
    comment = ""
    for line in source_text(feature).splitlines():
        option = next(iter(parse_kconfig(line)), None)
        if option is not None:
            options.append(records.evolve(option, cause=comment))
        elif line.startswith("# "):
            comment = line.removeprefix("# ")
    return tuple(options)


def recipe_options(kernel: Kernel, sink: DiagnosticSink) -> list[KconfigOption]:
    """What the recipe asks for, in fragments and in ``config=``."""
    options: list[KconfigOption] = []
    for fragment in kernel.fragments:
        try:
            options += parse_kconfig(fragment.text, fragment.span, file=fragment.source)
        except DiagnosticError as error:
            sink.extend(error.diagnostics)
    for option in kernel.config:
        if fault := check_option(option):
            sink.add(Code.E_KCONFIG, fault, option.span, fix='write values as .config does: y, m, n, 12, 0x1f, "text"')
        else:
            options.append(option)
    return options


_LEAVE_OUT = "leave CONFIG_{name} out, or what needs it"


def report_contradictions(
    required: Iterable[KconfigOption], recipe: Iterable[KconfigOption], sink: DiagnosticSink, *, fix: str = _LEAVE_OUT
) -> None:
    """E_KCONFIG for two lines of a recipe that differ, and for one that takes away what the image needs.

    ``fix``: what to do about the latter, with ``{name}`` and ``{value}`` of what is needed.
    """
    recipe = list(recipe)
    for found in contradictions(recipe):
        sink.add(
            Code.E_KCONFIG,
            f"'{print_option(found.second)}' contradicts '{print_option(found.first)}'",
            found.second.span,
            notes=(Note(message=f"the other line: '{print_option(found.first)}'", span=found.first.span),),
            fix="keep one of the two",
        )
    needs = {option.name: option for option in required}
    for option in recipe:
        need = needs.get(option.name)
        if need is not None and not satisfies(need.value, option.value):
            sink.add(
                Code.E_KCONFIG,
                f"'{print_option(option)}' contradicts what the image needs: '{print_option(need)}'",
                option.span,
                notes=(Note(message=need.cause, span=need.span),),
                fix=fix.format(name=need.name, value=need.value),
            )


def fragment_files(image: ResolvedImage, *, source: bool, modules: bool = False) -> tuple[KconfigFragment, ...]:
    """The fragments as files of the tree, in the order of their numbers.

    ``source``: with those for kernels from source. ``modules``: with that for one that loads modules.
    """
    fragments: list[KconfigFragment] = []
    for number, feature, node in _numbered(image):
        if source and source_text(feature.name):
            fragments.append(_file(f"{number}-{feature.name}-source", source_text(feature.name), feature, node))
        if feature.fragment:
            fragments.append(_file(f"{number}-{feature.fragment}", fragment_text(feature.fragment), feature, node))
    kernel = image.authored_kernel
    if source and modules:
        cause = "resolve-kernel: the recipe asks for a kernel with modules"
        name = f"{FIRST_GIVEN - 1}-{MODULES}-source"
        fragments.append(KconfigFragment(span=kernel.span, cause=cause, name=name, text=source_text(MODULES)))
    for number, fragment in enumerate(kernel.fragments, start=FIRST_GIVEN):
        fragments.append(records.evolve(fragment, name=f"{number}-{fragment.name}"))
    if kernel.config:
        text = "".join(f"{print_option(option)}\n" for option in merge_options(kernel.config))
        cause = "the options of config="
        fragments.append(KconfigFragment(span=kernel.span, cause=cause, name=RECIPE_OPTIONS, text=text))
    return tuple(fragments)


def _numbered(image: ResolvedImage) -> Iterable[tuple[int, KernelFeature, Node]]:
    numbers = {feature: number for number, feature in enumerate(KERNEL_FEATURES, start=FIRST_OWN)}
    return ((numbers[feature], feature, node) for feature, node in wanted_features(image))


def _file(name: str, text: str, feature: KernelFeature, node: Node) -> KconfigFragment:
    return KconfigFragment(span=node.span, cause=f"resolve-kernel: {feature.reason}", name=name, text=text)
