"""Runs the source builds of a bake, one by one: what is in the cache is taken from there, only the rest is built.

What a build makes is ``build-NAME.tar`` in mkosi's output folder, where the main image takes it from. A build that has
to run is run as the one dependency of an image that is itself left out (``--format=none``), so that its environment
holds nothing of the image and nothing of other builds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError

from tdxc_runtime.builds.declared import BuildRecord, DeclaredBuild
from tdxc_runtime.builds.downloads import DOWNLOADS_FOLDER, DownloadStore
from tdxc_runtime.builds.failure import BuildStep, build_failure, next_step
from tdxc_runtime.builds.fetch_settings import write_fetch_settings
from tdxc_runtime.builds.key import PACKAGE_PREFIX, cache_key, changed_inputs, complete_inputs
from tdxc_runtime.builds.packages import PackageIndex, apt_folder, give_back, update_index
from tdxc_runtime.builds.store import STORE_FOLDER, BuildStore, CacheEntry, CorruptEntryError
from tdxc_runtime.process import LineCallback
from tdxc_runtime.toolsroot.make import scratch_folder

if TYPE_CHECKING:
    from tdxc_runtime.backends.workplace import Workplace

_SHOWN_CHANGES = 3


@attrs.frozen(kw_only=True)
class MadeBuilds:
    """The builds of a bake, all of them in the output folder. ``workplace``: what the main image goes on with.

    ``arguments``: for the main image's mkosi. ``diagnostics``: warnings.
    """

    workplace: Workplace
    records: tuple[BuildRecord, ...] = ()
    arguments: tuple[str, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


@attrs.frozen(kw_only=True)
class BuildBench:
    """What the builds of a bake share. ``log``: the bake's own, beside which each build gets one."""

    workplace: Workplace
    index: PackageIndex
    store: BuildStore
    downloads: DownloadStore
    log: Path
    recipe: str
    progress: LineCallback
    on_line: LineCallback


@contextlib.contextmanager
def made_builds(
    workplace: Workplace,
    builds: Sequence[DeclaredBuild],
    *,
    cache: Path,
    log: Path,
    recipe: str = "RECIPE",
    progress: LineCallback | None = None,
    on_line: LineCallback | None = None,
) -> Iterator[MadeBuilds]:
    """Make all builds, for the block in which the main image is baked.

    Without package sources that can be asked beforehand, nothing is taken from the cache, and mkosi makes the builds
    together with the image. Raises DiagnosticError: E_BUILD with the build's name, its last lines and its log.
    """
    tell = progress or _ignore
    if builds:
        write_fetch_settings(workplace.folders.sandbox, offline=workplace.offline)
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(_package_index(workplace, cache, tell)) if builds else None
        if index is None:
            yield MadeBuilds(workplace=workplace, records=tuple(_uncached(build) for build in builds))
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            own = attrs.evolve(workplace, folders=attrs.evolve(workplace.folders, packages=index.folder))
            bench = BuildBench(
                workplace=own,
                index=index,
                store=BuildStore(cache / STORE_FOLDER),
                downloads=DownloadStore(cache / DOWNLOADS_FOLDER),
                log=log,
                recipe=recipe,
                progress=tell,
                on_line=on_line or _ignore,
            )
            made = [_make(bench, build) for build in builds]
            yield MadeBuilds(
                workplace=own,
                records=tuple(record for record, _ in made),
                arguments=("--dependency=", *(() if workplace.offline else _METADATA)),
                diagnostics=tuple(diagnostic for _, found in made for diagnostic in found),
            )
        remove_archives(workplace.folders.output, builds)


_METADATA = ("--cache-only=metadata",)
"""mkosi uses the lists of packages as they are in the package cache, which is where the keys come from."""


def remove_archives(output: Path, builds: Sequence[DeclaredBuild]) -> None:
    """Remove what only the main image needed from the folder of its artifacts; of a kernel, mkosi keeps a copy."""
    for build in builds:
        for name in (archive_name(build.name), f"build-{build.name}", f"build-{build.name}.vmlinuz"):
            (output / name).unlink(missing_ok=True)


def archive_name(name: str) -> str:
    """The file in mkosi's output folder that a build makes."""
    return f"build-{name}.tar"


def alone_arguments(workplace: Workplace, name: str, *more: str) -> list[str]:
    """The command line that makes one build and no image (mkosi(1) of 25.3 and 27.1: lists end with an empty value).

    mkosi 27 would make an initrd as well for an image without a format that may be bootable.
    """
    parts = ["--format=none", "--bootable=no", "--build-script=", "--dependency=", f"--dependency=build-{name}"]
    return workplace.arguments(*parts, *more)


@contextlib.contextmanager
def _package_index(workplace: Workplace, cache: Path, tell: LineCallback) -> Iterator[PackageIndex | None]:
    """The packages on offer, in a package cache of this bake alone; None where they cannot be told."""
    trees = [*workplace.sources.sandbox_trees, (workplace.folders.sandbox, "")]
    shared = workplace.folders.packages
    with scratch_folder(cache, "packages") as scratch:
        etc = apt_folder(trees, scratch / "sandbox")
        answer = workplace.tool.run_beside(["apt-get", "--version"], ())
        if answer is None or answer.status or not any((etc / "sources.list.d").iterdir()):
            tell("builds are not cached: where their packages come from is known to mkosi alone (name a mirror)")
            yield None
            return

        tell("asking which packages the builds need")
        folder = scratch / "packages"
        try:
            yield update_index(
                shared,
                folder,
                etc,
                workplace.sources.architecture,
                workplace.tool.run_beside,
                offline=workplace.offline,
            )
        finally:
            give_back(folder, shared)


def _make(bench: BuildBench, build: DeclaredBuild) -> tuple[BuildRecord, tuple[Diagnostic, ...]]:
    """Bring one build's archive into the output folder."""
    try:
        packages = bench.index.resolve(build.packages)
    except DiagnosticError as fault:
        raise _of_build(build, fault) from fault
    if build.moving_source:
        bench.progress(f"build {build.name}: '{build.moving_source}' can change, so it is built each time")
        _run_alone(bench, build)
        return _uncached(build), ()
    inputs = complete_inputs(build.inputs, packages, bench.workplace.tool.version)
    key = cache_key(inputs)
    record = BuildRecord(name=build.name, language=build.language, key=key, network=build.network)
    target = bench.workplace.folders.output / archive_name(build.name)
    with bench.store.locked(key, lambda: bench.progress(f"waiting for another bake that makes build {build.name}")):
        damage = ""
        try:
            entry = bench.store.find(key)
            if entry is not None:
                bench.progress(f"build {build.name}: nothing changed, taken from the cache ({key[:12]})")
                bench.store.copy_out(entry, target)
                return record, ()
        except CorruptEntryError as fault:
            damage = f"its entry in the cache was damaged: {fault}"
            bench.store.remove(key)
        previous = bench.store.closest(build.name, inputs)
        bench.progress(f"build {build.name}: {damage or _why(previous, inputs)}; building it")
        began = time.monotonic()
        _run_alone(bench, build)
        warnings = [_damage_warning(build, damage)] if damage else []
        try:
            bench.store.add(
                target,
                inputs,
                build=build.name,
                language=build.language,
                network=build.network,
                seconds=time.monotonic() - began,
                reason=damage,
                previous=previous.key if previous else "",
            )
        except OSError as fault:  # a full disk, say: the bake has what it needs
            warnings.append(_not_kept_warning(build, fault))
    return record, tuple(warnings)


def _run_alone(bench: BuildBench, build: DeclaredBuild) -> None:
    workplace = bench.workplace
    log = bench.log.absolute().with_name(f"{bench.log.stem}-build-{build.name}.log")
    metadata = () if workplace.offline else _METADATA
    arguments = alone_arguments(workplace, build.name, *metadata)
    folders, seen = workplace.folders, workplace.seen
    step = BuildStep(build.name)

    def on_line(line: str) -> None:
        nonlocal step
        step = next_step(step, line)
        bench.on_line(folders.on_host(line, seen))

    with bench.downloads.offered(folders.packages):
        completed = workplace.tool.run(arguments, folders, on_line=on_line, log=log, check=False)
    if completed.status or not (folders.output / archive_name(build.name)).is_file():
        if step.build != build.name:  # the image, which is left out
            step = BuildStep(build.name, "leaving out the image")
        raise build_failure(workplace, bench.recipe, step, completed, log)


def _of_build(build: DeclaredBuild, fault: DiagnosticError) -> DiagnosticError:
    """The same fault, said of a build."""
    return DiagnosticError(
        attrs.evolve(diagnostic, message=f"build '{build.name}': {diagnostic.message}")
        for diagnostic in fault.diagnostics
    )


def _why(previous: CacheEntry | None, inputs: dict[str, str]) -> str:
    """In a few words, what has changed since a build was made last."""
    if previous is None:
        return "not in the cache"
    changes = changed_inputs(previous.inputs, inputs)
    packages = sum(change.name.startswith(PACKAGE_PREFIX) for change in changes)
    names = [change.name for change in changes if not change.name.startswith(PACKAGE_PREFIX)]
    words = names[:_SHOWN_CHANGES]
    if len(names) > _SHOWN_CHANGES:
        words.append(f"{len(names) - _SHOWN_CHANGES} more inputs")
    if packages:
        words.append(f"{packages} package{'s' if packages > 1 else ''}")
    return f"changed: {', '.join(words)}"


def _damage_warning(build: DeclaredBuild, damage: str) -> Diagnostic:
    return Diagnostic(
        code=Code.W_CACHE,
        message=f"build '{build.name}' was made again: {damage}",
        fix="check the disk that holds the cache; `tdxc cache gc` removes other damaged entries",
    )


def _not_kept_warning(build: DeclaredBuild, fault: OSError) -> Diagnostic:
    return Diagnostic(
        code=Code.W_CACHE,
        message=f"build '{build.name}' was made, and could not be kept for later bakes: {fault.strerror or fault}",
        fix="make room on the disk that holds the cache, such as by `tdxc cache gc`",
    )


def _uncached(build: DeclaredBuild) -> BuildRecord:
    return BuildRecord(name=build.name, language=build.language, network=build.network)


def _ignore(_: str) -> None:
    return
