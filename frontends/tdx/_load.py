"""Loading a recipe: run a Python file or read a YAML file, and give its images as frozen IR.

Whatever is wrong with the file or with what it says becomes a diagnostic at a line of the recipe. Verbs that the
recipe calls at module level are recorded. Loading leaves ``sys.path``, ``sys.modules`` and the working directory as
they were; modules of the recipe's own folder can be imported while it runs.
"""

from __future__ import annotations

import functools
import stat
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, SourceSpan, nearest
from tdxc.ir import AuthoredImage

from tdx._session import Action, Session, recipe_session
from tdx.backends import Backend
from tdx.image import Image

RECIPE_LIMIT_BYTES = 8 * 1024 * 1024
YAML_SUFFIXES = (".yaml", ".yml")


@records.frozen
class LoadedRecipe:
    """What a recipe file says.

    ``image`` is the chosen one and ``name`` its variable (the image's own name in YAML); ``root`` is the recipe's
    folder, absolute; ``sources`` gives the text of a file by its name in spans, for rendering diagnostics.
    """

    path: Path
    root: Path
    name: str
    image: AuthoredImage
    backend: Backend | None
    actions: tuple[Action, ...]
    sources: Callable[[str], str | None]


def load_recipe(path: str | Path, name: str = "") -> LoadedRecipe:
    """Load ``recipe.py``, ``TDXfile``, ``recipe.yaml``, or ``recipe.py:name`` where it makes several images.

    Raises DiagnosticError with every fault that could be found, in source order.
    """
    file, name = split_reference(path, name)
    data = read_recipe(file)
    root = file.resolve().parent
    with recipe_session(root) as session:
        named = _read_yaml(data, file, session) if is_yaml(file) else _run_python(data, file, session)
    chosen, image = _choose(named, name, file.name)
    return LoadedRecipe(
        path=file,
        root=root,
        name=chosen,
        image=image.freeze(),
        backend=image.backend,
        actions=tuple(session.actions),
        sources=sources_below(root),
    )


def split_reference(path: str | Path, name: str = "") -> tuple[Path, str]:
    """``recipe.py:name`` as path and name; a file whose own name holds a colon stays what it is."""
    text = str(path)
    stem, colon, variable = text.rpartition(":")
    if not name and colon and stem and variable.isidentifier() and not Path(text).exists():
        return Path(stem), variable
    return Path(text), name


def is_yaml(path: Path) -> bool:
    """Whether a recipe is YAML: by its suffix."""
    return path.suffix.lower() in YAML_SUFFIXES


def read_recipe(path: Path) -> bytes:
    """The bytes of a recipe file.

    Raises E_PATH for what is no readable regular file, E_LIMIT above 8 MiB, E_ENCODING for a name that is not UTF-8.
    """
    span = SourceSpan(file=path.name)
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        message = f"the name of the recipe, {path.name!a}, is not UTF-8"
        raise DiagnosticError.of(Code.E_ENCODING, message, fix="rename the file") from error
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DiagnosticError.of(Code.E_PATH, f"'{path}' is a folder, not a recipe", span, fix=_inside(path))
        if not stat.S_ISREG(status.st_mode):
            raise DiagnosticError.of(Code.E_PATH, f"'{path}' is not a regular file", span)
        if status.st_size > RECIPE_LIMIT_BYTES:
            message = f"the recipe is {status.st_size} bytes; the limit is {RECIPE_LIMIT_BYTES} (8 MiB)"
            raise DiagnosticError.of(
                Code.E_LIMIT, message, records.evolve(span, line=1, column=1), fix="put content into files, with src"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        close = nearest(path.name, _names_in(path.parent))
        fix = f"did you mean '{path.parent / close}'?" if close else "`tdxc init` writes a first recipe"
        raise DiagnosticError.of(Code.E_PATH, f"there is no recipe '{path}'", span, fix=fix) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DiagnosticError.of(Code.E_PATH, f"cannot read '{path}': {reason}", span) from error


def decode_recipe(data: bytes, file: str) -> str:
    """A recipe's text; raises E_ENCODING at the first byte that is not UTF-8."""
    data = data.removeprefix(BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        raise DiagnosticError.of(
            Code.E_ENCODING,
            f"the recipe is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}",
            SourceSpan(file=file, line=line, column=column),
            fix="save the file as UTF-8",
        ) from error


def sources_below(root: Path) -> Callable[[str], str | None]:
    """Look-up of recipe files by their names in spans."""

    @functools.cache
    def source(file: str) -> str | None:
        try:
            path = root / file
            return path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else None
        except (OSError, ValueError):
            return None

    return source


def _run_python(data: bytes, file: Path, session: Session) -> dict[str, Image]:
    from tdx._execute import execute

    text = decode_recipe(data, file.name)
    try:
        variables = execute(text, file.resolve(), session.root)
    except DiagnosticError as error:
        _raise_all(session, error)
    return {name: value for name, value in variables.items() if isinstance(value, Image)}


def _read_yaml(data: bytes, file: Path, session: Session) -> dict[str, Image]:
    from tdx._execute import importable
    from tdx.yaml import read_image

    text = decode_recipe(data, file.name)
    with importable(session.root):
        try:
            image = read_image(text, file.name)
        except DiagnosticError as error:
            _raise_all(session, error)
    return {image.name: image}


def _raise_all(session: Session, error: DiagnosticError) -> NoReturn:
    """Raise what stopped the recipe together with all faults that its images had collected until then."""
    sink = DiagnosticSink()
    for image in session.images:
        sink.extend(image.faults)
    sink.extend(error.diagnostics)
    raise DiagnosticError(sink.diagnostics) from error


def _choose(named: dict[str, Image], name: str, file: str) -> tuple[str, Image]:
    """The image that is meant; one image under two names is still one."""
    span = SourceSpan(file=file, line=1, column=1)
    if not named:
        raise DiagnosticError.of(
            Code.E_RECIPE, "the recipe makes no image", span, fix='make one at module level: `image = Image("my-vm")`'
        )
    names = ", ".join(f"'{known}'" for known in named)
    if name:
        if name not in named:
            close = nearest(name, named)
            fix = f"did you mean '{close}'?" if close else f"the recipe has: {names}"
            raise DiagnosticError.of(Code.E_REFERENCE, f"the recipe has no image '{name}'", span, fix=fix)
        return name, named[name]
    if len({id(image) for image in named.values()}) > 1:
        raise DiagnosticError.of(
            Code.E_RECIPE,
            f"the recipe makes several images: {names}",
            span,
            fix=f"say which one: {file}:{next(iter(named))}",
        )
    return next(iter(named.items()))


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def _inside(folder: Path) -> str:
    candidates = [name for name in ("recipe.py", "TDXfile", "recipe.yaml", "__main__.py") if (folder / name).is_file()]
    return f"name the file: {folder / candidates[0]}" if candidates else "name the recipe's file"
