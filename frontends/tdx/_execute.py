"""Running the Python of a recipe, and turning whatever it does wrong into a diagnostic at the recipe's own line."""

from __future__ import annotations

import contextlib
import functools
import linecache
import os
import re
import sys
import types
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, Note, SourceSpan, nearest

from tdx import _secret
from tdx._callsite import frame_span, is_internal, span_file

if TYPE_CHECKING:
    from typing_extensions import Buffer

_COMPILER = str(Path(records.__file__).parent) + os.sep
"""The package ``tdxc``, whose records raise for wrong arguments."""

MODULE_NAME = "tdx_recipe"
"""The recipe's ``__name__`` under ``tdxc``; not ``__main__``, so that a guarded ``main()`` does not run."""


def execute(text: str, path: Path, root: Path) -> dict[str, Any]:
    """Run a recipe's text; gives its variables.

    Raises E_SYNTAX for text that is no Python, what the recipe itself raises as DiagnosticError, and E_RECIPE at the
    recipe's innermost line for every other exception.
    """
    linecache.checkcache()
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    module = types.ModuleType(MODULE_NAME)
    module.__file__ = str(path)
    with importable(root), _as_module(module):
        try:
            exec(_compile(text, path, root), module.__dict__)  # noqa: S102 - a Python recipe is a program
        except DiagnosticError:
            raise
        except SyntaxError as error:
            raise _syntax_error(error, path, root) from error
        except (Exception, SystemExit) as error:
            raise _recipe_error(error, path, root) from error
        finally:
            linecache.cache.pop(str(path), None)
    return dict(module.__dict__)


@contextlib.contextmanager
def importable(root: Path) -> Iterator[None]:
    """Make modules of the recipe's folder importable, and forget them and every trace of it afterwards."""
    path, hooks, folder, known = list(sys.path), list(sys.path_hooks), _working_folder(), set(sys.modules)
    sys.path.insert(0, str(root))
    sys.path_hooks.insert(0, functools.partial(_finder, str(root), tuple(filter(None, path))))
    for place in [place for place in sys.path_importer_cache if _is_below(place, str(root))]:
        del sys.path_importer_cache[place]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = path
        sys.path_hooks[:] = hooks
        for place, finder in list(sys.path_importer_cache.items()):
            if isinstance(finder, _Finder):
                del sys.path_importer_cache[place]
        if folder is not None:
            os.chdir(folder)
        new = set(sys.modules) - known
        own = {package for package in {name.partition(".")[0] for name in new} if _is_of_recipe(package, root)}
        for name in new:
            if name.partition(".")[0] in own:
                sys.modules.pop(name, None)


class _Loader(SourceFileLoader):
    """Leaves no ``__pycache__`` beside the modules of a recipe; our own, imported meanwhile, are cached as ever."""

    def set_data(self, path: str, data: Buffer, *, _mode: int = 0o666) -> None:
        """Called with compiled code alone (importlib.abc.SourceLoader)."""


class _Finder(FileFinder):
    """One that is forgotten together with the recipe."""


def _finder(root: str, installed: tuple[str, ...], path: str) -> _Finder:
    """A hook of ``sys.path_hooks`` for the recipe's folder, and what a recipe adds to ``sys.path``."""
    is_installed = not _is_below(path, root) and any(_is_below(path, place) for place in installed)
    if is_installed or not Path(path).is_dir():
        raise ImportError  # the next hook takes it
    return _Finder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _working_folder() -> Path | None:
    """The working directory; None when it was removed under us."""
    try:
        return Path.cwd()
    except OSError:
        return None


@contextlib.contextmanager
def _as_module(module: types.ModuleType) -> Iterator[None]:
    former = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        if former is None:
            sys.modules.pop(module.__name__, None)
        else:
            sys.modules[module.__name__] = former


def _is_of_recipe(package: str, root: Path) -> bool:
    """Whether a top-level module was found in the recipe's folder itself."""
    module = sys.modules.get(package)
    file = getattr(module, "__file__", None)
    if file is not None:
        path = Path(file)
        return path.parent == root or (path.name == "__init__.py" and path.parent.parent == root)
    return any(Path(entry).parent == root for entry in getattr(module, "__path__", ()))


def _compile(text: str, path: Path, root: Path) -> types.CodeType:
    file = span_file(str(path), root)
    if (offset := text.find("\0")) >= 0:
        line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
        span = SourceSpan(file=file, line=line, column=column)
        raise DiagnosticError.of(Code.E_SYNTAX, "the recipe holds a NUL character", span, fix="remove it")
    try:
        return compile(text, str(path), "exec", dont_inherit=True)
    except (RecursionError, MemoryError) as error:
        span = SourceSpan(file=file, line=1, column=1)
        message = "the recipe is nested too deep for Python's parser"
        raise DiagnosticError.of(Code.E_LIMIT, message, span, fix="split the expression") from error


def _syntax_error(error: SyntaxError, path: Path, root: Path) -> DiagnosticError:
    """Where Python's parser stopped; its column counts characters from 1, or is 0 or None where it has none."""
    file = span_file(error.filename or str(path), root)
    span = SourceSpan(file=file, line=max(error.lineno or 1, 1), column=max(error.offset or 1, 1))
    return DiagnosticError.of(Code.E_SYNTAX, error.msg or "invalid syntax", span, fix="correct the Python syntax")


def _recipe_error(error: BaseException, path: Path, root: Path) -> DiagnosticError:
    spans = list(_recipe_spans(error, root))
    span = spans[-1] if spans else SourceSpan(file=span_file(str(path), root), line=1, column=1)
    secrets = _secret.misused(error)
    if secrets is not None:
        return _misuse(error, secrets, spans or [span])
    callers = tuple(Note(message="called from here", span=caller) for caller in reversed(spans[-4:-1]))
    message, fix = _explain(error)
    return DiagnosticError((Diagnostic(code=Code.E_RECIPE, message=message, span=span, notes=callers, fix=fix),))


def _misuse(
    error: BaseException, secrets: tuple[_secret.SecretReference, ...], spans: list[SourceSpan]
) -> DiagnosticError:
    """A secret where Python wants a value."""
    who = f"the secret '{secrets[0].name}'" if len(secrets) == 1 else "a secret"
    message = f"{who} is used as if it were its value ({type(error).__name__}: {error})"
    way = tuple(Note(message="it came here by this call", span=span) for span in reversed(spans[:-1]))
    declared = tuple(note for secret in secrets for note in secret.notes())
    return DiagnosticError.of(Code.E_SECRET, message, spans[-1], fix=_secret.FIX, notes=(*way, *declared))


def _explain(error: BaseException) -> tuple[str, str]:
    if isinstance(error, SystemExit):
        return f"the recipe ended itself with sys.exit({error.code!r})", "let the recipe run to its end"
    if isinstance(error, RecursionError):
        return "the recipe calls itself without an end (RecursionError)", "give the recursion an end"
    if isinstance(error, ModuleNotFoundError) and error.name:
        fix = f"install '{error.name}' beside tdxvm, or put it into the recipe's folder"
        return f"the recipe imports '{error.name}', which does not exist here", fix
    import traceback

    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return f"the recipe raised {text.splitlines()[0][:400]}", _nearest_name(error)


def _nearest_name(error: BaseException) -> str:
    """The fix for a misspelt attribute or import, where there is something alike.

    An ImportError knows the name as such since Python 3.12 (``name_from``).
    """
    if isinstance(error, AttributeError):
        name, owner = error.name, error.obj
    else:
        found = re.match(r"cannot import name '(\w+)' from '([\w.]+)'", str(error))
        name, owner = (found[1], sys.modules.get(found[2])) if found else ("", None)
    if not name or owner is None:
        return ""
    close = nearest(name, (entry for entry in dir(owner) if not entry.startswith("_")))
    return f"did you mean '{close}'?" if close else ""


@functools.cache
def _libraries() -> tuple[str, ...]:
    import sysconfig

    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple(str(Path(sysconfig.get_path(name))) + os.sep for name in names)


def _recipe_spans(error: BaseException, root: Path) -> Iterator[SourceSpan]:
    """The recipe's own places in a traceback, outermost first, without runs of equal ones."""
    last = SourceSpan()
    trace = error.__traceback__
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if not is_internal(filename) and not filename.startswith((*_libraries(), _COMPILER, "<frozen")):
            span = frame_span(trace.tb_frame, root, trace.tb_lasti)
            if span != last:
                yield span
            last = span
        trace = trace.tb_next
