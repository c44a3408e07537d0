"""From a recipe to a tree: frontend, passes, policy, emitters, writer. No click and no printing here.

The driver is the one place that knows all layers; the DSL's verbs and the CLI both call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tdxc import policy, records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, DiagnosticSink, SourceSpan, nearest
from tdxc.ir import AuthoredImage, CompiledImage, KernelSource, ResolvedImage, codec, json_text
from tdxc.passes import AUTHORED_PASSES, RESOLVED_PASSES
from tdxc.passes.lower_image import lower_image, merged_layer
from tdxc.passes.validate import check_merged
from tdxc.pipeline import Observer, Stage, check_order, run_passes
from tdxc.tree import FileTree, TreeFile
from tdxc.writer import WriteReport, write_tree

if TYPE_CHECKING:
    from tdx._load import LoadedRecipe

LOWER_IMAGE = "lower-image"


@records.frozen
class Compilation:
    """What a compile yields: the recipe's IR, its resolved variants, the tree, and warnings in source order."""

    authored: AuthoredImage
    compiled: CompiledImage
    tree: FileTree
    diagnostics: tuple[Diagnostic, ...]

    @property
    def recipe_digest(self) -> str:
        """SHA-256 (hex) of the authored IR."""
        return codec.digest(self.authored)


def load_recipe(reference: str) -> LoadedRecipe:
    """Run or parse a recipe: ``recipe.py``, ``TDXfile``, ``recipe.yaml`` or ``recipe.py:name``.

    Raises DiagnosticError for anything wrong with the file or with what it says.
    """
    from tdx._load import load_recipe as load

    return load(reference)


def analyse(
    authored: AuthoredImage, *, profiles: tuple[str, ...] | None = None, observers: tuple[Observer, ...] = ()
) -> tuple[CompiledImage, tuple[Diagnostic, ...]]:
    """Run all passes: with ``profiles`` None over the base and each profile's variant, else over that one variant.

    Returns the resolved image and all warnings. Raises DiagnosticError with every fault that could be found.
    """
    check_order(RESOLVED_PASSES, check_order(AUTHORED_PASSES))
    sink = DiagnosticSink()
    expanded = run_passes(authored, AUTHORED_PASSES, sink, observers)
    _check_profiles(expanded, profiles or ())
    _check_combination(expanded, profiles or (), sink)
    image = _resolve(expanded, profiles or (), sink, observers)
    variants: tuple[ResolvedImage, ...] = ()
    if profiles is None:
        variants = tuple(_resolve(expanded, (profile.name,), sink, observers) for profile in expanded.profiles)
    for variant in (image, *variants):
        sink.extend(policy.evaluate_compile(variant))
    sink.raise_if_errors()
    return _compiled(image, variants), sink.diagnostics


def _compiled(image: ResolvedImage, variants: tuple[ResolvedImage, ...]) -> CompiledImage:
    compiled = CompiledImage(span=image.span, image=image, variants=variants)
    if image.kernel.source is not KernelSource.SOURCE or not variants:
        return compiled
    from tdxc.passes.kernel_variants import with_own_kernels  # few images have a kernel of their own

    return with_own_kernels(compiled)


def compile_image(
    authored: AuthoredImage,
    *,
    profiles: tuple[str, ...] | None = None,
    override: Path | None = None,
    observers: tuple[Observer, ...] = (),
) -> Compilation:
    """Passes and emitters, in memory; ``override`` is a folder that is layered on top (see ``tdxc.overrides``).

    Raises DiagnosticError; what it returns is complete and without errors.
    """
    from tdxc_emitters import emit_image

    compiled, diagnostics = analyse(authored, profiles=profiles, observers=observers)
    tree = emit_image(compiled)
    if override is not None:
        from tdxc.overrides import apply_override

        tree, warnings = apply_override(tree, override)
        diagnostics += warnings
    tree = tree.merge(_bookkeeping(authored, tree), _builds(compiled, tree, overridden=override is not None))
    return Compilation(authored=authored, compiled=compiled, tree=tree, diagnostics=diagnostics)


def write_compilation(compilation: Compilation, out: Path, *, force: bool = False) -> WriteReport:
    """Write the compiled tree to ``out``, all or nothing (see ``tdxc.writer``)."""
    return write_tree(compilation.tree, out, force=force)


def pass_names() -> tuple[str, ...]:
    """Every name that a dump or a timing may speak of, in order."""
    return tuple(name for name, _description in pass_descriptions())


def pass_descriptions() -> tuple[tuple[str, str], ...]:
    """Name and one-line description of everything between recipe and emitters, in order."""
    return (
        *((pass_.name, pass_.description) for pass_ in AUTHORED_PASSES),
        (LOWER_IMAGE, "make every default explicit; from here on one variant of the image"),
        *((pass_.name, pass_.description) for pass_ in RESOLVED_PASSES),
    )


def _resolve(
    authored: AuthoredImage, profiles: tuple[str, ...], sink: DiagnosticSink, observers: tuple[Observer, ...]
) -> ResolvedImage:
    first = len(AUTHORED_PASSES) + 1
    image = lower_image(authored, profiles)
    for observer in observers:
        observer.after_pass(
            Stage(index=first, name=LOWER_IMAGE, variant=image.profiles, before=authored, after=image, seconds=0.0)
        )
    return run_passes(image, RESOLVED_PASSES, sink, observers, first_index=first + 1)


def _check_profiles(image: AuthoredImage, wanted: tuple[str, ...]) -> None:
    known = [profile.name for profile in image.profiles]
    for name in wanted:
        if name not in known:
            close = nearest(name, known)
            hint = f"did you mean '{close}'?" if close else f"the recipe has: {', '.join(known) or 'no profiles'}"
            raise DiagnosticError.of(Code.E_REFERENCE, f"the recipe has no profile '{name}'", image.span, fix=hint)


def _check_combination(image: AuthoredImage, profiles: tuple[str, ...], sink: DiagnosticSink) -> None:
    """What validate checks of each profile, once more of several together: two may clash that do not alone."""
    if len(profiles) < 2:
        return
    sink.extend(check_merged(image.base, merged_layer(image, profiles)))
    sink.raise_if_errors()


def _builds(compiled: CompiledImage, tree: FileTree, *, overridden: bool) -> FileTree:
    """``.tdxc/builds.json``: what a bake needs to know of the builds from source, where there are any."""
    if not any(image.builds for image in (compiled.image, *compiled.variants)):
        return FileTree()
    from tdxc_emitters.mkosi.builds import DECLARATION, declaration

    more = {}
    if overridden:
        from tdxc.overrides import override_inputs

        more = override_inputs(tree)
    return FileTree({DECLARATION: TreeFile.text(json_text(declaration(compiled, tree, more), sort_keys=True))})


def _bookkeeping(authored: AuthoredImage, tree: FileTree) -> FileTree:
    """``.tdxc/``: the only place of the tree that speaks of recipe files and lines."""
    origins = {
        path: {"recipe": str(entry.origin.span), "cause": entry.origin.cause}
        for path, entry in tree.entries.items()
        if entry.origin is not None and (entry.origin.span != SourceSpan() or entry.origin.cause)
    }
    return FileTree(
        {
            ".tdxc/ir.json": TreeFile.text(codec.dumps(authored)),
            ".tdxc/origins.json": TreeFile.text(json_text(origins, sort_keys=True)),
        }
    )
