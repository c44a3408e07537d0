"""``tdx.lock``: JSON with a version, the recipe's digest and the versions of the tools that it was locked with."""

from __future__ import annotations

import json
from typing import Any

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, Note, SourceSpan

LOCK_VERSION = 1


@records.frozen(kw_only=True)
class LockFile:
    """``recipe_digest`` is the SHA-256 of the authored IR; ``tools`` are name and version pairs, sorted by name."""

    image: str
    recipe_digest: str
    tools: tuple[tuple[str, str], ...] = ()


def render_lock(lock: LockFile) -> str:
    """The file's text: sorted keys, final newline, the same for the same recipe on every machine."""
    data = {
        "version": LOCK_VERSION,
        "image": lock.image,
        "recipe_digest": f"sha256:{lock.recipe_digest}",
        "tools": dict(lock.tools),
    }
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def parse_lock(text: str, file: str) -> LockFile:
    """Read a lockfile; raises E_LOCKFILE for anything that :func:`render_lock` does not write."""
    try:
        data = json.loads(text)
        version = data["version"]
        if version != LOCK_VERSION:
            raise _error(file, f"lockfile version {version!r} is not {LOCK_VERSION}, the one that this tdxc reads")
        digest = _text(data["recipe_digest"])
        tools = tuple(sorted((_text(name), _text(value)) for name, value in data["tools"].items()))
        image = _text(data["image"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _error(file, f"the lockfile is damaged: {error}") from error
    if not digest.startswith("sha256:"):
        raise _error(file, "the lockfile's recipe digest is not 'sha256:…'")
    return LockFile(image=image, recipe_digest=digest.removeprefix("sha256:"), tools=tools)


def check_lock(lock: LockFile, current: LockFile, file: str) -> None:
    """Refuse when the recipe or a locked tool differs from now; raises E_LOCKFILE naming each input that changed."""
    changed: list[str] = []
    if lock.image != current.image:
        changed.append(f"image: locked '{lock.image}', now '{current.image}'")
    if lock.recipe_digest != current.recipe_digest:
        changed.append(f"recipe: locked sha256:{lock.recipe_digest[:16]}…, now sha256:{current.recipe_digest[:16]}…")
    locked, now = dict(lock.tools), dict(current.tools)
    changed += [
        f"tool {name}: locked {locked.get(name, 'none')}, now {now.get(name, 'none')}"
        for name in sorted(locked)
        if locked.get(name) != now.get(name)
    ]
    if changed:
        raise _error(file, "the lockfile does not fit the recipe", notes=changed)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {type(value).__name__}")
    return value


def _error(file: str, message: str, notes: list[str] | None = None) -> DiagnosticError:
    return DiagnosticError.of(
        Code.E_LOCKFILE,
        message,
        SourceSpan(file=file),
        notes=tuple(Note(message=note) for note in notes or ()),
        fix="run img.lock() (or `tdxc lock`) with the current recipe, review the diff, then bake again",
    )
