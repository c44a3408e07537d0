"""The jinja2 environment of recipe templates: strict, sandboxed, deterministic. Imports jinja2; import it lazily."""

from __future__ import annotations

import functools
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

LARGEST_PRODUCT = 1 << 24
"""Bound on what ``*`` and ``**`` may make (items, or the number itself), so that a template cannot fill the memory."""


class TemplateEnvironment(SandboxedEnvironment):
    """Undefined variables are errors, there is no chance and no other file, and products are bounded."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """The product, when it is small."""
        if operator == "**" and not (isinstance(left, int) and abs(left) <= 1024 and right in range(65)):
            raise SecurityError(f"{left!r} ** {right!r} is too large for a template")
        sizes = [len(side) if isinstance(side, str | list | tuple) else side for side in (left, right)]
        if all(isinstance(size, int) for size in sizes) and abs(sizes[0] * sizes[1]) > LARGEST_PRODUCT:
            raise SecurityError(f"the product of {operator!r} is too large for a template")
        return super().call_binop(context, operator, left, right)


@functools.cache
def template_environment() -> TemplateEnvironment:
    """The one environment; compiled templates are cached in it."""
    environment = TemplateEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    del environment.filters["random"]
    del environment.globals["lipsum"]
    return environment
