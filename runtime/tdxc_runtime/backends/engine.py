"""What all engines share: check, run mkosi's summary and build, publish.

Either the whole output folder appears, or nothing does: mkosi writes into a temporary sibling, every file of it is
read once (for its digest) and synced, and one rename publishes it. An earlier output stays until that moment.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.backends.base import (
    RECORD_NAME,
    BakeOutput,
    BakeRequest,
    Durations,
    collect_artifacts,
    record_text,
    target_kind,
)
from tdxc_runtime.backends.mkosi_tool import MkosiTool
from tdxc_runtime.backends.package_sources import TreeSources
from tdxc_runtime.backends.workplace import Workplace, prepare_workplace
from tdxc_runtime.builds.declared import DeclaredBuild, read_builds
from tdxc_runtime.builds.failure import BuildStep, build_failure, next_step
from tdxc_runtime.builds.run import MadeBuilds, made_builds
from tdxc_runtime.process import describe_status, rerunnable, stop_on_signals
from tdxc_runtime.supervisor.syscalls import exchange
from tdxc_runtime.toolsroot.apt_sources import Mirror
from tdxc_runtime.toolsroot.cache import cache_folder
from tdxc_runtime.toolsroot.make import scratch_folder

_STEP_MARK = "‣ "
_SHOWN_LINES = 25


def bake_with(find_tool: Callable[[], MkosiTool], request: BakeRequest) -> BakeOutput:
    """Bake ``request`` with the mkosi that ``find_tool`` comes up with.

    SIGTERM and SIGHUP stop a bake as cleanly as Ctrl-C does.

    Raises DiagnosticError: E_OUTPUT when the output is a folder that no bake made, E_BACKEND_UNAVAILABLE when there is
    no mkosi to run, E_BACKEND_EXECUTION with mkosi's own words when it fails.
    """
    cache = request.cache or cache_folder()
    request = attrs.evolve(
        request,
        tree=request.tree.absolute(),
        output=Path(os.path.abspath(request.output)),  # noqa: PTH100 - no links followed, no `..` left
        cache=cache,
        log=request.log or default_log(cache, request.output.name),
    )
    for target in request.targets:
        target_kind(target)
    check_tree(request.tree)
    check_output(request.output)
    try:
        return _bake_checked(find_tool, request)
    except OSError as fault:
        raise DiagnosticError.of(
            Code.E_OUTPUT,
            f"cannot write {request.output}: {fault}",
            fix="make room, or name an output folder that you may write to",
        ) from fault


def _bake_checked(find_tool: Callable[[], MkosiTool], request: BakeRequest) -> BakeOutput:
    with stop_on_signals(), scratch_folder(request.output.parent, request.output.name) as scratch:
        began = time.monotonic()
        tool = find_tool()
        ready = time.monotonic()
        workplace, made = _run_mkosi(request, tool, scratch)
        found = workplace.folders.output
        if request.finish:
            request.finish(found, made.records)
        done = time.monotonic()
        if request.progress:
            request.progress("hashing and publishing the artifacts")
        artifacts = collect_artifacts(found)
        mirror = workplace.mirror.uri if workplace.mirror else ""
        record = record_text(artifacts, found, mkosi_version=tool.version, tools=tool.description, mirror=mirror)
        (found / RECORD_NAME).write_text(record, encoding="utf-8")
        publish(found, request.output, scratch)
    return BakeOutput(
        folder=request.output,
        artifacts=tuple(attrs.evolve(a, path=request.output / a.path.relative_to(found)) for a in artifacts),
        log=request.log or Path(),
        mirror=workplace.mirror,
        mkosi_version=tool.version,
        tools=tool.description,
        builds=made.records,
        diagnostics=made.diagnostics,
        durations=Durations(tools_s=ready - began, mkosi_s=done - ready, publish_s=time.monotonic() - done),
    )


def check_tree(tree: Path) -> None:
    """E_BACKEND_EXECUTION unless ``tree`` is a mkosi tree."""
    if not (tree / "mkosi.conf").is_file():
        raise DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            f"{tree} is not a compiled tree: it has no mkosi.conf",
            fix="compile the recipe first: `tdxc compile RECIPE -o DIR`",
        )


def check_output(output: Path) -> None:
    """E_OUTPUT when something is in the way that an earlier bake did not make."""
    if not output.exists() and not output.is_symlink():
        return
    ours = output.is_dir() and not output.is_symlink()
    if not ours or not ((output / RECORD_NAME).is_file() or not any(output.iterdir())):
        raise DiagnosticError.of(
            Code.E_OUTPUT,
            f"{output} exists and was not made by a bake, so it will not be replaced",
            fix="name another output folder, or remove it yourself",
        )


def publish(found: Path, output: Path, scratch: Path) -> None:
    """Make ``found`` appear as ``output`` in one step and durably; what was there before ends up in ``scratch``."""
    for path in [found, *found.rglob("*")]:
        if not path.is_symlink():
            _sync(path)
    try:
        if output.exists():
            exchange(found, output)
        else:
            found.rename(output)
        _sync(output.parent)
        _sync(scratch)
    except OSError as fault:
        raise DiagnosticError.of(Code.E_OUTPUT, f"cannot write {output}: {fault.strerror}") from fault


def default_log(cache: Path, name: str) -> Path:
    """A new log file in the cache, named after the output and the time."""
    folder = cache / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"bake-{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"


def _run_mkosi(request: BakeRequest, tool: MkosiTool, scratch: Path) -> tuple[Workplace, MadeBuilds]:
    """Run summary, source builds and build; the artifacts are in the workplace's output folder."""
    workplace = prepare_workplace(request, tool, scratch)
    if request.progress:
        request.progress(_sources_sentence(workplace.sources, workplace.mirror, request.mirror))
    builds = read_builds(request.tree, request.profiles)
    with made_builds(
        workplace,
        builds,
        cache=request.cache or cache_folder(),
        log=request.log or Path(),
        recipe=request.recipe,
        progress=request.progress,
        on_line=request.on_line,
    ) as made:
        arguments = made.workplace.arguments(f"--build-directory={made.workplace.seen.build}", *made.arguments)
        _write_log_head(request, made.workplace, arguments)
        # behind the log: what is handed over may be the hash of a password
        variables = [f"--environment={name}={value}" for name, value in request.environment]
        _build(request, made.workplace, builds, [*variables, *arguments])
    _make_disks(request, workplace.folders.output, workplace.sources.seed)
    return made.workplace, made


def _build(request: BakeRequest, workplace: Workplace, builds: Sequence[DeclaredBuild], arguments: list[str]) -> None:
    tool, folders, seen = workplace.tool, workplace.folders, workplace.seen
    steps = ["starting mkosi"]
    building = BuildStep()

    def on_line(line: str) -> None:
        nonlocal building
        building = next_step(building, line)
        line = folders.on_host(line, seen)
        if request.on_line:
            request.on_line(line)
        if line.startswith(_STEP_MARK):
            steps.append(line.removeprefix(_STEP_MARK).strip())
            if request.progress:
                request.progress(steps[-1])

    tool.send(folders)
    completed = tool.run(arguments, folders, on_line=on_line, log=request.log, check=False)
    if completed.status and building.build in {build.name for build in builds}:
        raise build_failure(workplace, request.recipe, building, completed, request.log or Path())
    if completed.status:
        shown = [folders.on_host(line, seen) for line in completed.lines[-_SHOWN_LINES:]]
        notes = [*shown, f"the whole log is in {request.log}"]
        raise DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            f"mkosi {describe_status(completed.status)}; its last step: {steps[-1]}",
            notes=tuple(Note(message=line) for line in notes),
            fix="mend what mkosi names, or run `tdxc doctor` if it is the environment's fault",
        )
    tool.fetch(folders)


def _make_disks(request: BakeRequest, output: Path, seed: uuid.UUID) -> None:
    """Make the disk of each target from the one UKI of the output."""
    if not request.targets:
        return
    from tdxc_runtime.disk import write_target

    ukis = sorted(path for path in output.glob("*.efi") if not path.is_symlink())
    if len(ukis) != 1:
        raise DiagnosticError.of(
            Code.E_DEPLOYMENT,
            f"a disk for {', '.join(request.targets)} needs one UKI, and the bake made {len(ukis)}",
            fix="compile an image whose format is a UKI",
        )
    for target in request.targets:
        if request.progress:
            request.progress(f"writing the disk for {target}")
        write_target(target, ukis[0], seed, output)


def _sources_sentence(sources: TreeSources, used: Mirror | None, option: str) -> str:
    if used is not None:
        return f"packages come from {used.uri}, {used.origin}"
    if sources.declared:
        ignored = " (the mirror option is not used)" if option else ""
        return f"packages come from the sources that the tree itself names{ignored}"
    return "packages come from mkosi's own default mirror"


def _write_log_head(request: BakeRequest, workplace: Workplace, arguments: list[str]) -> None:
    if request.log is None:
        return
    request.log.parent.mkdir(parents=True, exist_ok=True)
    head = [
        f"baking {request.tree} into {request.output}",
        f"mkosi {workplace.tool.version}, {workplace.tool.description}",
        _sources_sentence(workplace.sources, workplace.mirror, request.mirror),
        f"the tree is called {workplace.seen.tree} below",
        rerunnable(["mkosi", *arguments]),
        "",
    ]
    request.log.write_text("\n".join(head), encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
