"""The verbs of an image: what ``python recipe.py`` does itself and ``tdxc`` only takes note of.

Relative output paths start at the working directory, as paths of any program do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdxc.diagnostics import Code
from tdxc.ir import AuthoredImage

from tdx._callsite import caller_span
from tdx._declarations import Declarations
from tdx._session import Action, active_session

if TYPE_CHECKING:
    from tdx.backends import Backend

DEFAULT_TREE = "build/mkosi"
DEFAULT_LOCK = "build/tdx.lock"
DEFAULT_OUTPUT = "build/output"


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

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "(recorded)"


class Verbs(Declarations):
    """``image.compile``, ``image.lock``, ``image.bake`` and ``image.measure``."""

    backend: Any
    name: Any

    def freeze(self) -> AuthoredImage:
        """The image as frozen IR."""
        raise NotImplementedError

    def compile(self, path: str | os.PathLike[str] = DEFAULT_TREE, *, force: bool = False) -> Path:
        """Write the mkosi tree to ``path``; ``force`` overwrites files of it that were changed by hand."""
        if self._record("compile", path=str(path), force=force):
            return Path(path)
        from tdxc import driver

        compilation = driver.compile_image(self.freeze(), profiles=self._state.profiles)
        driver.write_compilation(compilation, Path(path), force=force)
        return Path(path)

    def lock(self, path: str | os.PathLike[str] = DEFAULT_LOCK) -> Path:
        """Write the lockfile: the recipe's digest and the versions of the tools."""
        if self._record("lock", path=str(path)):
            return Path(path)
        raise self._fault(Code.E_UNSUPPORTED, "lock() runs under tdxc only, for now")

    def bake(
        self,
        *,
        frozen: bool = False,
        output: str | os.PathLike[str] = DEFAULT_OUTPUT,
        lock: str | os.PathLike[str] = DEFAULT_LOCK,
    ) -> Recorded:
        """Compile the image and have mkosi build it; ``frozen`` refuses when the lockfile does not fit."""
        if self._record("bake", frozen=frozen, output=str(output), lock=str(lock)):
            return Recorded()
        raise self._fault(Code.E_UNSUPPORTED, "bake() runs under tdxc only, for now")

    def measure(self, output: str | os.PathLike[str] = DEFAULT_OUTPUT) -> Recorded:
        """Predict the registers of what ``bake`` left in ``output``."""
        if self._record("measure", output=str(output)):
            return Recorded()
        raise self._fault(Code.E_UNSUPPORTED, "measure() runs under tdxc only, for now")

    def _backend(self) -> Backend | None:
        backend: Backend | None = self.backend
        return backend

    def _record(self, verb: str, **arguments: object) -> bool:
        """Whether a load is going on, in which case the verb is taken note of and nothing else happens."""
        session = active_session()
        if session is None:
            return False
        action = Action(
            verb=verb,
            image=self.name,
            profiles=self._state.profiles,
            arguments=tuple(sorted(arguments.items())),
            span=caller_span(self._root),
        )
        session.actions.append(action)
        return True
