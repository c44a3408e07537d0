"""The verbs of an image: what ``python recipe.py`` does itself and ``tdxc`` only takes note of.

Relative output paths start at the working directory, as paths of any program do. This module alone reaches up to the
driver, and only when a verb is really executed.
"""

from __future__ import annotations

import abc
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from tdxc.diagnostics import Code, Diagnostic, DiagnosticError
from tdxc.ir import AuthoredImage

from tdx import _values as v
from tdx._callsite import caller_span
from tdx._declarations import Declarations
from tdx._declare import describes
from tdx._session import Action, active_session

if TYPE_CHECKING:
    from tdxc.bake import BakeResult
    from tdxc_runtime.backends import Artifact
    from tdxc_runtime.measure.predict import Measurement

DEFAULT_TREE = "build/mkosi"
DEFAULT_LOCK = "build/tdx.lock"
DEFAULT_OUTPUT = "build/output"


class BakeResults(Mapping[str, "BakeResult"]):
    """What ``image.bake`` made, by profile; the empty name is the image without a profile.

    With a single result, its properties are at hand here too: ``result.uki.path``.
    """

    def __init__(self, results: Mapping[str, BakeResult]) -> None:
        self._results = dict(results)

    def __getitem__(self, profile: str) -> BakeResult:
        return self._results[profile]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    @property
    def only(self) -> BakeResult:
        """The one result; raises E_DEPLOYMENT when several profiles were baked."""
        if len(self._results) == 1:
            return next(iter(self._results.values()))
        names = ", ".join(f"'{name}'" for name in self._results)
        raise DiagnosticError.of(Code.E_DEPLOYMENT, f"several profiles were baked: {names}", fix="say results['name']")

    @property
    def folder(self) -> Path:
        """The output folder of the one result."""
        return self.only.folder

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Everything in the output folder of the one result."""
        return self.only.artifacts

    @property
    def log(self) -> Path:
        """All that mkosi printed for the one result."""
        return self.only.log

    @property
    def uki(self) -> Artifact:
        """The unified kernel image of the one result."""
        return self.only.uki

    def artifact(self, target: str) -> Artifact:
        """What is deployed on ``qemu``, ``azure`` or ``gcp``, of the one result."""
        return self.only.artifact(target)


class Recorded:
    """The result of a verb that was recorded instead of executed: inert, so that the recipe can go on."""

    def __getattr__(self, name: str) -> Recorded:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, _key: object) -> Recorded:
        return self

    def __call__(self, *_arguments: object, **_keywords: object) -> Recorded:
        return self

    def __iter__(self) -> Iterator[Recorded]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "(recorded)"


class Verbs(Declarations, abc.ABC):
    """``image.compile``, ``image.lock``, ``image.bake`` and ``image.measure``."""

    @abc.abstractmethod
    def freeze(self) -> AuthoredImage:
        """The image as frozen IR."""

    @describes
    def compile(self, path: v.HostPath = DEFAULT_TREE, *, force: bool = False) -> Path:
        """Write the mkosi tree to ``path``; ``force`` overwrites files of it that were changed by hand.

        Inside of a profile the tree holds that variant alone, else the image with its profiles beside it.
        """
        if self._record("compile", path=str(path), force=force):
            return Path(path)
        from tdxc import driver

        profiles = self._state.profiles
        alone = profiles if profiles is not None and len(profiles) == 1 else None
        compilation = driver.compile_image(self.freeze(), profiles=alone)
        driver.write_compilation(compilation, Path(path), force=force)
        self._tell(compilation.diagnostics)
        return Path(path)

    @describes
    def lock(self, path: v.HostPath = DEFAULT_LOCK) -> Path:
        """Write the lockfile: the recipe's digest and the versions of the tools."""
        if self._record("lock", path=str(path)):
            return Path(path)
        from tdxc import bake

        bake.lock_image(self.freeze(), Path(path))
        return Path(path)

    @describes
    def bake(
        self,
        *,
        frozen: bool = False,
        output: v.HostPath = DEFAULT_OUTPUT,
        tree: v.HostPath = DEFAULT_TREE,
        lockfile: v.HostPath = DEFAULT_LOCK,
        offline: bool = False,
        mirror: v.OptionalUri = "",
        force: bool = False,
    ) -> BakeResults:
        """Compile the image and have mkosi build it; ``frozen`` refuses when the lockfile does not fit.

        Inside of a profile that variant is baked; inside of ``all_profiles`` each, into a folder of its name below
        ``output``. ``offline`` uses cached packages only; ``mirror`` serves recipes that declare none.
        """
        arguments = {"output": str(output), "tree": str(tree), "lockfile": str(lockfile)}
        if self._record("bake", frozen=frozen, offline=offline, mirror=mirror, force=force, **arguments):
            return cast("BakeResults", Recorded())
        from tdxc import bake
        from tdxc_runtime.backends import backend_for

        image = self.freeze()
        engine = backend_for(self._assigned.get("backend"))
        profiles = self._state.profiles or ()
        folders = {name: Path(output, name) if len(profiles) > 1 else Path(output) for name in profiles or ("",)}
        results = {}
        for name, folder in folders.items():
            options = bake.BakeOptions(
                profiles=(name,) if name else (),
                tree=Path(tree),
                output=folder,
                lockfile=Path(lockfile),
                frozen=frozen,
                offline=offline,
                force=force,
                mirror=mirror,
                progress=_say,
                ask_password=_ask_password,
            )
            results[name] = result = bake.bake_image(image, options, engine)
            self._tell(result.diagnostics)
            if result.root_password:
                _say(f"root's password in this image, shown this once: {result.root_password}")
        return BakeResults(results)

    @describes
    def measure(
        self,
        output: v.HostPath = DEFAULT_OUTPUT,
        *,
        platform: Literal["qemu", "azure", "gcp"] = "qemu",
        boot: Literal["disk", "direct"] = "disk",
        firmware: v.HostPath | None = None,
        endorsement: v.HostPath | None = None,
        memory: v.Size = "2G",
        vcpus: v.CpuCount = 2,
        qemu: v.HostPath | None = None,
        qemu_version: str = "",
        physical_bits: int | None = None,
        processor_id: str = "",
        two_pass: bool = False,
        uki_profile: int = 0,
    ) -> Measurement:
        """Predict the registers of the image that ``bake`` left in ``output``, for one machine.

        The arguments are the options of ``tdxc measure``. Raises E_MEASUREMENT when ``output`` holds no bake of the
        recipe as it is now.
        """
        if self._record("measure", output=str(output), platform=platform):
            return cast("Measurement", Recorded())
        from tdxc import baked
        from tdxc_runtime.measure import machine, manifest, request
        from tdxc_runtime.measure.firmware.mrtd import PageOrder

        self._check_baked(Path(output))
        shape = machine.GuestMachine(
            memory=v.size_bytes(memory),
            vcpus=vcpus,
            physical_bits=physical_bits,
            processor_id=machine.parse_processor_id(processor_id) if processor_id else "",
        )
        asked = request.MeasurementRequest(
            artifact=Path(output),
            platform=manifest.Platform(platform),
            boot=request.BootMode(boot),
            profile=uki_profile,
            firmware=None if firmware is None else Path(firmware),
            endorsement=None if endorsement is None else Path(endorsement),
            page_order=PageOrder.ADDS_FIRST if two_pass else PageOrder.INTERLEAVED,
            machine=shape,
            qemu=None if qemu is None else Path(qemu),
            qemu_version=machine.QemuVersion.parse(qemu_version) if qemu_version else None,
        )
        measurement = baked.measure(asked)
        self._tell(measurement.warnings)
        return measurement

    def _check_baked(self, output: Path) -> None:
        from tdxc import baked
        from tdxc.ir import codec

        if baked.read_bake(output).recipe_digest != codec.digest(self.freeze()):
            message = f"'{output}' holds no bake of this recipe as it is now"
            raise DiagnosticError.of(
                Code.E_MEASUREMENT, message, caller_span(self._root), fix="run image.bake() before image.measure()"
            )

    def _tell(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        """Print warnings, as ``tdxc`` does."""
        from tdxc.render import render_diagnostics

        from tdx._load import sources_below

        sys.stderr.write(render_diagnostics(diagnostics, sources_below(self._root)))

    def _record(self, verb: str, **arguments: object) -> bool:
        """Whether a load is going on, in which case the verb is taken note of and nothing else happens."""
        session = active_session()
        if session is None:
            return False
        action = Action(
            verb=verb,
            image=str(self._assigned.get("name", "")),
            profiles=self._state.profiles,
            arguments=tuple(sorted(arguments.items())),
            span=caller_span(self._root),
        )
        session.actions.append(action)
        return True


def _ask_password() -> str:
    """Asked for twice, without an echo; empty where nobody is there."""
    from getpass import getpass

    if not sys.stdin.isatty():
        return ""
    first, second = getpass("Root's password: "), getpass("Once more: ")
    return first if first == second else ""


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()
