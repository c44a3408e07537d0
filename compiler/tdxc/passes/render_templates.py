"""render-templates: jinja2 templates with their variables become files.

The environment is strict and deterministic: an undefined variable is an error, and nothing random, no clock, no other
file and no Python internals can be reached.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticSink, SourceSpan, nearest
from tdxc.ir import AuthoredImage, Blob, File, Layer, Template
from tdxc.passes.base import PassContext

if TYPE_CHECKING:
    from types import TracebackType

    from jinja2 import TemplateError

TEMPLATE_FRAME = "<template>"
"""The file name that jinja2 gives to templates made from strings, in tracebacks."""

_UNDEFINED = re.compile(r"'([^']+)' is undefined")
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""What an expression of a template can raise, beside jinja2's own errors."""


class RenderTemplates:
    """Render every template of every layer."""

    name: ClassVar[str] = "render-templates"
    description: ClassVar[str] = "render jinja2 templates into files"
    requires: ClassVar[frozenset[str]] = frozenset({"expand-modules"})
    establishes: ClassVar[frozenset[str]] = frozenset({"render-templates"})

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        """The image with files instead of templates."""
        profiles = tuple(records.evolve(p, layer=_rendered(p.layer, ctx.sink)) for p in image.profiles)
        return records.evolve(image, layer=_rendered(image.layer, ctx.sink), profiles=profiles)


def _rendered(layer: Layer, sink: DiagnosticSink) -> Layer:
    if not layer.templates:
        return layer
    files = tuple(file for template in layer.templates if (file := _file(template, sink)) is not None)
    return records.evolve(layer, files=layer.files + files, templates=())


def _file(template: Template, sink: DiagnosticSink) -> File | None:
    text = _render(template, sink)
    if text is None:
        return None
    try:
        content = Blob.of_text(text)
    except UnicodeEncodeError as error:
        message = f"template of '{template.path}' yields text that UTF-8 cannot hold: {error.reason}"
        sink.add(Code.E_ENCODING, message, template.span)
        return None
    return File(
        span=template.span,
        cause=f"render-templates: {template.source or 'inline template'}",
        path=template.path,
        content=content,
        mode=template.mode,
        owner=template.owner,
        group=template.group,
    )


def _render(template: Template, sink: DiagnosticSink) -> str | None:
    from jinja2 import TemplateError, TemplateSyntaxError

    from tdxc.passes.template_environment import template_environment

    variables: dict[str, Any] = json.loads(template.variables)
    try:
        return template_environment().from_string(template.text).render(variables)
    except TemplateSyntaxError as error:
        sink.extend((_diagnostic(template, error.message or "syntax error", error.lineno),))
    except TemplateError as error:
        sink.extend((_of_jinja_error(template, error, variables),))
    except _FAILURES as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        fix = ""
        if "no loader" in text:  # jinja2's words for include, import and extends
            text = "it takes in another template, and a template here stands alone"
            fix = "write the other's text into it"
        sink.extend((_diagnostic(template, text, _line(error.__traceback__), fix),))
    return None


def _of_jinja_error(template: Template, error: TemplateError, variables: dict[str, Any]) -> Diagnostic:
    message = error.message or type(error).__name__
    fix = ""
    if match := _UNDEFINED.fullmatch(message):
        close = nearest(match[1], variables)
        given = f"add '{match[1]}' to the template's variables"
        fix = f"did you mean '{close}'?" if close else f"{given}, or use the default() filter"
    return _diagnostic(template, message, _line(error.__traceback__), fix)


def _line(traceback: TracebackType | None) -> int:
    """The template's line in a traceback, which jinja2 rewrites in terms of the template; 0 when it is not there."""
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == TEMPLATE_FRAME:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _diagnostic(template: Template, message: str, line: int, fix: str = "") -> Diagnostic:
    """At the line of the template's own file where it has one; else at the recipe, with the line in words."""
    span, where = template.span, f" line {line}" if line else ""
    if template.source and line:
        span, where = SourceSpan(file=template.source, line=line, column=1), ""
    return Diagnostic(
        code=Code.E_TEMPLATE, message=f"template of '{template.path}'{where}: {message}", span=span, fix=fix
    )
