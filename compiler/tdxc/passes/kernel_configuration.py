"""What a kernel from source is configured with: our defaults or the recipe's .config, what the image needs, the recipe.

A recipe's word counts more than a default, and nothing counts more than what the image needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, Note
from tdxc.grammar import parse_kconfig, print_option
from tdxc.ir import KconfigOption, Kernel, ResolvedImage
from tdxc.passes.kernel_fragments import (
    MODULES,
    default_options,
    recipe_options,
    report_contradictions,
    required_options,
    source_options,
)
from tdxc.passes.kernel_options import merge_options

OLDEST = (6, 7)
"""The first Linux with TSM reports, through which a guest asks for quotes."""

_MODULES_ALONE = frozenset({"STRICT_MODULE_RWX"})
"""Required options that a kernel without modules does not have."""

_WITHOUT_MODULES_SINCE = {"BPF_JIT": (6, 10), "BPF_JIT_ALWAYS_ON": (6, 10)}
"""Defaults of ours that a kernel without modules has since that version: before, memory for generated code came from
the loader of modules (Linux 6.10's changes to mm/execmem.c and kernel/bpf/Kconfig)."""

_RELEASE_SUFFIX = re.compile(r'"[A-Za-z0-9._+~-]{0,40}"')
"""What may follow the version in a kernel's release, which names a folder and is at most 64 bytes (uname(2))."""

_SIGNING = ("MODULE_SIG_ALL", "MODULE_SIG_FORCE")
_NO_KEY = '""'


@records.frozen
class Configuration:
    """``demanded`` must hold; ``base`` is what the configuration starts from, ours or the recipe's file."""

    demanded: tuple[KconfigOption, ...]
    base: tuple[KconfigOption, ...]
    has_modules: bool


def configure(image: ResolvedImage, series: tuple[int, ...], sink: DiagnosticSink) -> Configuration:
    """The configuration of a kernel of a series, such as (6, 12). Reports E_KCONFIG for what cannot be together."""
    kernel = image.authored_kernel
    recipe = recipe_options(kernel, sink)
    given = _config_file(kernel, sink) if kernel.config_file else default_options(image)
    _check_release((*given, *recipe), kernel, sink)
    own = [option for option in (*given, *recipe) if option.name == "MODULES"]
    has_modules = bool(own) and own[-1].value == "y"
    if not kernel.config_file:
        given = _for_modules(given, series, kernel, has_modules=has_modules)
    # a later line counts: of the features, one that needs an option comes behind the base that does without
    base = _last_of_each(given)
    said = {option.name for option in recipe}
    required = _required(image, said, has_modules=has_modules)
    report_contradictions(required, recipe, sink)
    if kernel.config_file:
        kept_lines = [option for option in base if option.name not in said]
        report_contradictions(required, kept_lines, sink, fix='write config={{"{name}": "{value}"}}, which counts more')
    if has_modules:
        _refuse_signatures((*base, *recipe), kernel, sink)
    else:
        _refuse_modules((*base, *recipe), sink)
    demanded = {option.name: option for option in merge_options(required, recipe)}
    # where the base makes a requirement of ours stronger (y in place of m), its word stays; the recipe's own counts
    ours = {name for name, option in demanded.items() if option.value == "m"} - said
    kept = {option.name: option for option in base if option.name in ours}
    return Configuration(
        demanded=tuple({**demanded, **kept}.values()),
        base=tuple(option for option in merge_options(base) if option.name not in demanded),
        has_modules=has_modules,
    )


def _required(image: ResolvedImage, said: set[str], *, has_modules: bool) -> list[KconfigOption]:
    """What the image requires; a module will do where there are modules and our defaults do not need it built in.

    ``said``: the names that the recipe itself sets. A .config of the recipe's own stands in place of our defaults.
    """
    has_own_file = image.authored_kernel.config_file is not None
    required = []
    for option in required_options(image):
        if option.name in _MODULES_ALONE and not has_modules:
            continue
        may_load = has_modules and (has_own_file or option.name in said)
        required.append(option if option.value != "m" or may_load else records.evolve(option, value="y"))
    return required


def _config_file(kernel: Kernel, sink: DiagnosticSink) -> list[KconfigOption]:
    """The options of the recipe's own .config; its constants of compiler and tools follow from the build's."""
    blob = kernel.config_file
    if blob is None:
        return []
    try:
        options = parse_kconfig(blob.data.decode("utf-8", errors="replace"), kernel.span, file=kernel.config_name)
    except DiagnosticError as error:
        sink.extend(error.diagnostics)
        return []
    # without the file's name: the reason is among what the build is made of, and another name makes no other kernel
    return [records.evolve(option, cause="the recipe's config_file has it") for option in options]


def _last_of_each(options: list[KconfigOption]) -> list[KconfigOption]:
    """Kconfig takes the last line of each name in one file."""
    return list({option.name: option for option in options}.values())


def _for_modules(
    defaults: list[KconfigOption], series: tuple[int, ...], kernel: Kernel, *, has_modules: bool
) -> list[KconfigOption]:
    """Our defaults as they have to be with modules, or without."""
    if has_modules:
        own = source_options(MODULES)
        return [*defaults, *(records.evolve(o, span=kernel.span, cause=f"kernel with modules: {o.cause}") for o in own)]
    return [option for option in defaults if series >= _WITHOUT_MODULES_SINCE.get(option.name, OLDEST)]


def _check_release(options: Iterable[KconfigOption], kernel: Kernel, sink: DiagnosticSink) -> None:
    """E_KCONFIG for a suffix of the release that cannot be in the name of a folder, or that make would expand."""
    for option in options:
        if option.name == "LOCALVERSION" and not _RELEASE_SUFFIX.fullmatch(option.value):
            sink.add(
                Code.E_KCONFIG,
                f"'{print_option(option)}' cannot follow the version in the name of the kernel's release",
                option.span if option.span.line else kernel.span,
                fix='use letters, digits and any of "._+~-", at most 40: config={"LOCALVERSION": "-mine"}',
            )


def _refuse_signatures(options: tuple[KconfigOption, ...], kernel: Kernel, sink: DiagnosticSink) -> None:
    """E_KCONFIG for modules that are signed while the kernel is built.

    The key is made anew in each build (Documentation/admin-guide/module-signing.rst), and one that lies in the sources
    is no secret.
    """
    last = {option.name: option for option in options}
    signs = last.get("MODULE_SIG")
    key = last.get("MODULE_SIG_KEY")
    faults = [option for name in _SIGNING if (option := last.get(name)) is not None and option.value == "y"]
    if signs is not None and signs.value == "y" and (key is None or key.value != _NO_KEY):
        faults.append(key or signs)
    for option in faults:
        sink.add(
            Code.E_KCONFIG,
            f"'{print_option(option)}' signs modules by a key that each build makes anew",
            option.span if option.span.line else kernel.span,
            notes=(Note(message="no two kernels would be equal; modules are measured with the image"),),
            fix='write config={"MODULE_SIG_KEY": "", "MODULE_SIG_ALL": False, "MODULE_SIG_FORCE": False}',
        )


def _refuse_modules(options: tuple[KconfigOption, ...], sink: DiagnosticSink) -> None:
    for option in options:
        if option.value == "m":
            sink.add(
                Code.E_KCONFIG,
                f"'{print_option(option)}' asks for a module, and the kernel has none",
                option.span,
                fix=f"write CONFIG_{option.name}=y, or add CONFIG_MODULES=y for a kernel with modules",
            )
