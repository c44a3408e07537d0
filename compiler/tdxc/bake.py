"""Baking: compile, check lock and policy, hand the tree to a backend, and describe what came out.

Example::

    result = bake_image(image, BakeOptions(output=Path("build/output")))
    print(result.artifact("qemu").path)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tdxc import __version__, policy, records
from tdxc.baked import describe_bake
from tdxc.combination import check_layers
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, DiagnosticSink, SourceSpan
from tdxc.driver import Compilation, analyse, compile_image, write_compilation
from tdxc.ir import AuthoredImage, ResolvedImage, codec
from tdxc.ir.marks import PASSWORD_VARIABLE
from tdxc.lock import LockFile, check_lock, parse_lock, render_lock
from tdxc.writer import write_whole

if TYPE_CHECKING:
    from tdxc_runtime.backends import Artifact, Backend, BakeOutput

DEFAULT_LOCKFILE = Path("build/tdx.lock")
DEFAULT_TREE = Path("build/mkosi")
DEFAULT_OUTPUT = Path("build/output")
Tell = Callable[[str], None]


@records.frozen(kw_only=True)
class BakeOptions:
    """How to bake. ``mirror`` serves recipes that declare no package source; ``offline`` uses cached packages only.

    ``ask_password`` is for images whose root password is asked for. ``progress`` gets one sentence per step,
    ``on_line`` every line that mkosi prints. ``recipe``: how messages name it.
    """

    profiles: tuple[str, ...] = ()
    tree: Path = DEFAULT_TREE
    output: Path = DEFAULT_OUTPUT
    lockfile: Path = DEFAULT_LOCKFILE
    frozen: bool = False
    offline: bool = False
    force: bool = False
    mirror: str = ""
    override: Path | None = None
    log: Path | None = None
    ask_password: Callable[[], str] | None = None
    progress: Tell | None = None
    on_line: Tell | None = None
    recipe: str = "RECIPE"


@records.frozen(kw_only=True)
class BakeResult:
    """A finished bake: typed artifacts, each with path, kind, size in bytes and SHA-256.

    ``root_password`` is the one that this bake made for Devtools; it is kept nowhere else.
    """

    image: str
    profiles: tuple[str, ...]
    tree: Path
    recipe_digest: str
    targets: tuple[str, ...]
    output: BakeOutput
    diagnostics: tuple[Diagnostic, ...] = ()
    root_password: str = records.field(default="", repr=False)

    @property
    def folder(self) -> Path:
        """The output folder: complete, or the bake would have raised."""
        return self.output.folder

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Everything in the output folder."""
        return self.output.artifacts

    @property
    def log(self) -> Path:
        """All that mkosi printed."""
        return self.output.log

    @property
    def uki(self) -> Artifact:
        """The unified kernel image; raises E_DEPLOYMENT when the image is of another form."""
        from tdxc_runtime.backends import ArtifactKind

        return self._first(ArtifactKind.UKI.value, "a UKI")

    def artifact(self, target: str) -> Artifact:
        """What is deployed on ``qemu``, ``azure`` or ``gcp``; raises E_DEPLOYMENT when the image is not made for it."""
        from tdxc_runtime.backends import target_kind

        if target not in self.targets:
            raise DiagnosticError.of(
                Code.E_DEPLOYMENT,
                f"the image is made for {', '.join(self.targets)}, not for '{target}'",
                fix=f"add output_targets({target!r}) to the recipe and bake again",
            )
        return self._first(target_kind(target).value, f"the artifact for {target}")

    def _first(self, kind: str, what: str) -> Artifact:
        for artifact in self.artifacts:
            if artifact.kind.value == kind:
                return artifact
        raise DiagnosticError.of(Code.E_DEPLOYMENT, f"the bake made no {what}", fix="bake the image again")


def bake_image(image: AuthoredImage, options: BakeOptions, backend: Backend | None = None) -> BakeResult:
    """Bake one variant of an image. The output folder is complete afterwards, or as it was.

    Raises DiagnosticError: everything of a compile, E_LOCKFILE when ``frozen`` and the lock does not fit, E_POLICY,
    and the backend's E_BACKEND_UNAVAILABLE and E_BACKEND_EXECUTION.
    """
    if options.frozen:
        check_lockfile(image, options.lockfile)
    compilation = compile_image(image, override=options.override)
    variant = baked_variant(compilation, options.profiles)
    warnings = _check_policy(variant, options, compilation)
    _check_firmware(variant)
    write_compilation(compilation, options.tree, force=options.force)
    from tdxc_runtime.backends import BakeRequest, LocalBackend

    made, environment = _root_password(variant, options)
    engine = backend or LocalBackend()
    unpredicted: list[Diagnostic] = []
    request = BakeRequest(
        tree=options.tree,
        output=options.output,
        profiles=options.profiles,
        mirror=options.mirror,
        offline=options.offline,
        targets=tuple(target.name for target in variant.output_targets),
        finish=lambda folder, builds: unpredicted.extend(
            describe_bake(folder, compilation.recipe_digest, variant, builds)
        ),
        log=options.log,
        progress=options.progress,
        on_line=options.on_line,
        recipe=options.recipe,
        environment=environment,
    )
    output = engine.bake(request)
    return BakeResult(
        image=image.name,
        profiles=options.profiles,
        tree=options.tree,
        recipe_digest=compilation.recipe_digest,
        targets=tuple(target.name for target in variant.output_targets),
        output=output,
        diagnostics=(*warnings, *output.diagnostics, *unpredicted),
        root_password=made,
    )


def _check_firmware(variant: ResolvedImage) -> None:
    """Raise E_FIRMWARE for a file that cannot start a trust domain, before minutes go by."""
    firmware = variant.firmware
    if firmware.content is None:
        return
    from tdxc_runtime.measure.firmware.load import parse_firmware, require_traits

    try:
        require_traits(parse_firmware(firmware.content.data, name=firmware.value))
    except DiagnosticError as error:
        placed = (records.evolve(found, span=firmware.span) for found in error.diagnostics)
        raise DiagnosticError(tuple(placed)) from error


def _root_password(variant: ResolvedImage, options: BakeOptions) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A password that is made now, and what hands its hash to the tree; the hash stands in the image anyway."""
    wanted = variant.root_password.value if variant.root_password else ""
    if wanted not in {"random", "prompt"}:
        return "", ()
    from tdxc_runtime.password import hash_password, new_password

    made = new_password() if wanted == "random" else ""
    given = made or (options.ask_password() if options.ask_password else "")
    if not given:
        raise DiagnosticError.of(
            Code.E_RECIPE,
            "Devtools asks whoever bakes for a root password, and there is nobody to ask",
            variant.root_password.span if variant.root_password else variant.span,
            fix="bake in a terminal, or write root_password='random' or a hash",
        )
    return made, ((PASSWORD_VARIABLE, hash_password(given)),)


def debug_build(image: AuthoredImage, options: BakeOptions, build: str, backend: Backend | None = None) -> None:
    """Compile, and open a shell in the environment of one source build; returns when it is left, and bakes nothing.

    Raises DiagnosticError: everything of a compile, E_REFERENCE for a build that the variant does not have, E_BUILD.
    """
    compilation = compile_image(image, override=options.override)
    write_compilation(compilation, options.tree, force=options.force)
    from tdxc_runtime.backends import BakeRequest, LocalBackend

    request = BakeRequest(
        tree=options.tree,
        output=options.output,
        profiles=options.profiles,
        mirror=options.mirror,
        offline=options.offline,
        progress=options.progress,
    )
    (backend or LocalBackend()).debug_shell(request, build)


def baked_variant(compilation: Compilation, profiles: tuple[str, ...]) -> ResolvedImage:
    """The image with these profiles: the compilation has it already, unless several are combined.

    Raises E_REFERENCE for a profile that does not exist, and whatever is wrong with the combination, such as E_EMIT for
    a file that two of them change.
    """
    compiled = compilation.compiled
    for image in (compiled.image, *compiled.variants):
        if image.profiles == profiles:
            return image
    combined = analyse(compilation.authored, profiles=profiles)[0].image
    sink = DiagnosticSink()
    alone = [variant for variant in compiled.variants if variant.profiles[0] in profiles]
    sink.extend(check_layers(compiled.image, alone, combined))
    sink.raise_if_errors()
    return combined


def lock_image(image: AuthoredImage, lockfile: Path = DEFAULT_LOCKFILE) -> LockFile:
    """Write the lockfile of an image that compiles; raises DiagnosticError for one that does not, or E_OUTPUT."""
    compile_image(image)
    lock = current_lock(image)
    try:
        lockfile.parent.mkdir(parents=True, exist_ok=True)
        write_whole(lockfile, render_lock(lock))
    except OSError as error:
        raise DiagnosticError.of(Code.E_OUTPUT, f"cannot write '{lockfile}': {error.strerror}") from error
    return lock


def check_lockfile(image: AuthoredImage, lockfile: Path = DEFAULT_LOCKFILE) -> None:
    """Raise E_LOCKFILE when the file is missing, damaged, or of another recipe or other tools."""
    try:
        text = lockfile.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DiagnosticError.of(
            Code.E_LOCKFILE,
            f"cannot read the lockfile '{lockfile}': {getattr(error, 'strerror', None) or error}",
            SourceSpan(file=str(lockfile)),
            fix="run img.lock() or `tdxc lock RECIPE`, and keep the lockfile beside the recipe",
        ) from error
    check_lock(parse_lock(text, str(lockfile)), current_lock(image), str(lockfile))


def current_lock(image: AuthoredImage) -> LockFile:
    """What the lockfile of this recipe would hold now."""
    from tdxc_runtime.backends import tool_versions

    tools = {"tdxvm": __version__, **tool_versions()}
    return LockFile(image=image.name, recipe_digest=codec.digest(image), tools=tuple(sorted(tools.items())))


def _check_policy(variant: ResolvedImage, options: BakeOptions, compilation: Compilation) -> tuple[Diagnostic, ...]:
    """Everything found so far and what the policy says of this bake; raises E_POLICY."""
    sink = DiagnosticSink()
    sink.extend(compilation.diagnostics)
    invocation = policy.Invocation(frozen=options.frozen, cached_only=options.offline)
    sink.extend(policy.evaluate_bake(variant, invocation))
    sink.raise_if_errors()
    return sink.diagnostics
