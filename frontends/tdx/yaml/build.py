"""From a YAML document to an image: every key through the builder that its row of the table names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan, nearest

from tdx._declare import Site, describing_at
from tdx._kinds import describe
from tdx.image import Image
from tdx.yaml.keys import KEYS, KEYS_BY_NAME, Key, Shape
from tdx.yaml.nodes import Mapping, Node, Scalar, Sequence, parse_document, to_python


def read_image(text: str, file: str) -> Image:
    """Read a recipe's text into an image, which keeps the faults of what it declares.

    Raises DiagnosticError for a text that is no YAML within the limits, or no mapping at all.
    """
    document = parse_document(text, file)
    start = SourceSpan(file=file, line=1, column=1)
    if document is None:
        raise DiagnosticError.of(Code.E_RECIPE, "the recipe is empty", start, fix="give at least `name: my-vm`")
    if not isinstance(document, Mapping):
        message = f"a recipe must be a mapping of keys, not {describe(to_python(document))}"
        raise DiagnosticError.of(Code.E_TYPE, message, document.span, fix="begin with `name: my-vm`")
    with describing_at(Site(span=document.span, label="the image", noun="key")):
        image = Image()
    _Reader(image).layer(document, "")
    return image


_LISTS = frozenset((Shape.EACH, Shape.WORDS, Shape.VALUES, Shape.VARIANTS, Shape.MODULES))


class _Reader:
    """Applies nodes to an image; faults go to the image's sink."""

    def __init__(self, image: Image) -> None:
        self._image = image

    def layer(self, node: Mapping, path: str, *, profile: bool = False) -> None:
        """All keys of a document or of a profile, in the document's order."""
        for name, value in node.entries:
            key = KEYS_BY_NAME.get(name.text)
            if key is None:
                self._unknown(name, [known.name for known in KEYS if known.in_profile or not profile], path)
            elif profile and not key.in_profile:
                message = f"{path}{name.text} cannot differ between profiles: it is the same for the whole image"
                self._fault(Code.E_UNSUPPORTED, message, name.span, f"set {name.text} outside of the profile")
            else:
                self._key(key, value, f"{path}{name.text}")

    def _key(self, key: Key, value: Node, path: str) -> None:
        one = self._one(key.shape)
        if key.shape in _LISTS:
            for item, label in self._items(value, path):
                one(key, item, label)
        elif key.shape is Shape.PROFILES:
            self._profiles(value, path)
        else:
            one(key, value, path)

    def _one(self, shape: Shape) -> Callable[[Key, Node, str], None]:
        """What reads a key's value, or each item of it."""
        match shape:
            case Shape.ATTRIBUTE:
                return self._attribute
            case Shape.CALL | Shape.EACH:
                return self._call
            case Shape.WORDS:
                return self._word
            case Shape.VALUE | Shape.VALUES:
                return self._value
            case Shape.VARIANT | Shape.VARIANTS:
                return self._variant
            case _:
                return self._module

    def _attribute(self, key: Key, value: Node, _path: str) -> None:
        self._at(Site(span=value.span), setattr, self._image, key.target, to_python(value))

    def _word(self, key: Key, value: Node, path: str) -> None:
        self._at(Site(span=value.span, label=path, noun="key"), self._method(key.target), to_python(value))

    def _call(self, key: Key, value: Node, path: str) -> None:
        """One declaration from a mapping of its arguments, or from the one that a plain word stands for."""
        if key.shorthand and isinstance(value, Scalar) and value.value is not None:
            site = Site(span=value.span, label=path, noun="key")
            self._at(site, self._method(key.target), **{key.shorthand: value.value})
        elif (arguments := self._mapping(value, path)) is not None:
            self._at(_site(arguments, path), self._method(key.target), **to_python(arguments))

    def _value(self, key: Key, value: Node, path: str) -> None:
        if key.builder is not None and (arguments := self._mapping(value, path)) is not None:
            self._made(key.target, key.builder, arguments, path)

    def _variant(self, key: Key, value: Node, path: str) -> None:
        builders = dict(key.variants)
        word, arguments = value, Mapping((), value.span, 1)
        if isinstance(value, Mapping) and len(value.entries) == 1:
            word = value.entries[0][0]
            given = self._mapping(value.entries[0][1], f"{path}.{value.entries[0][0].text}")
            if given is None:
                return
            arguments = given
        if not isinstance(word, Scalar) or not isinstance(word.value, str):
            choice = ", ".join(f"'{name}'" for name in builders)
            message = f"{path} must be one of {choice}, alone or as the one key of a mapping with its arguments"
            self._fault(Code.E_TYPE, message, value.span)
        elif word.text not in builders:
            close = nearest(word.text, builders)
            fix = f"did you mean '{close}'?" if close else f"known: {', '.join(builders)}"
            self._fault(Code.E_VALUE, f"{path}: '{word.text}' is not known", word.span, fix)
        else:
            self._made(key.target, builders[word.text], arguments, f"{path}.{word.text}")

    def _made(self, target: str, builder: Callable[..., Any], arguments: Mapping, path: str) -> None:
        """Make a value by its builder, and hand it to a method of the image or assign it."""
        site = _site(arguments, path)
        try:
            with describing_at(site):
                made = builder(**to_python(arguments))
        except DiagnosticError as error:
            self._image.report(error.diagnostics)
            return
        if callable(getattr(Image, target)):
            self._at(site, self._method(target), made)
        else:
            self._at(site, setattr, self._image, target, made)

    def _module(self, _key: Key, value: Node, path: str) -> None:
        """``use: package.Class`` with its arguments under ``with``."""
        fields = self._mapping(value, path)
        if fields is None:
            return
        given = {key.text: node for key, node in fields.entries}
        for key, _node in fields.entries:
            if key.text not in {"use", "with"}:
                self._unknown(key, ["use", "with"], f"{path}.")
        use = given.get("use")
        if not isinstance(use, Scalar) or not isinstance(use.value, str):
            span = fields.span if use is None else use.span
            fix = "such as `use: tdx.modules.TimeSynchronisation`"
            self._fault(Code.E_TYPE, f"{path} needs use: the dotted name of a class", span, fix)
            return
        arguments = self._mapping(given.get("with", Mapping((), use.span, 1)), f"{path}.with")
        if arguments is not None:
            self._apply(use, arguments, path)

    def _apply(self, use: Scalar, arguments: Mapping, path: str) -> None:
        site = _site(records.evolve(arguments, span=use.span), use.text)
        try:
            module_class = _import_module_class(use)
            with describing_at(site):
                module = module_class(**to_python(arguments))
            self._at(Site(span=use.span), module.apply, self._image)
        except DiagnosticError as error:
            self._image.report(error.diagnostics)
        except Exception as error:  # noqa: BLE001 - a module is a program of the user's
            message = f"{path}: {use.text} raised {type(error).__name__}: {error}"
            self._fault(Code.E_MODULE, message, use.span)

    def _profiles(self, value: Node, path: str) -> None:
        profiles = self._mapping(value, path)
        for name, node in profiles.entries if profiles else ():
            layer = self._mapping(node, f"{path}.{name.text}")
            if layer is None:
                continue
            scope = self._at(Site(span=name.span, label=path, noun="key"), self._image.profile, name.text)
            with scope:
                self.layer(layer, f"{path}.{name.text}.", profile=True)

    def _items(self, value: Node, path: str) -> list[tuple[Node, str]]:
        if isinstance(value, Sequence):
            return [(item, f"{path}[{index}]") for index, item in enumerate(value.items)]
        if not (isinstance(value, Scalar) and value.value is None):
            message = f"{path} must be a list, not {describe(to_python(value))}"
            self._fault(Code.E_TYPE, message, value.span, "begin each item with '- '")
        return []

    def _mapping(self, value: Node, path: str) -> Mapping | None:
        if isinstance(value, Mapping):
            return value
        if isinstance(value, Scalar) and value.value is None:
            return Mapping((), value.span, 1)
        self._fault(Code.E_TYPE, f"{path} must be a mapping of keys, not {describe(to_python(value))}", value.span)
        return None

    def _method(self, target: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._image, target)
        return method

    def _at(self, site: Site, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call something of the image as if it stood at ``site``."""
        former = self._image.enter_site(site)
        try:
            return function(*arguments, **keywords)
        finally:
            self._image.enter_site(former)

    def _unknown(self, key: Scalar, known: list[str], path: str) -> None:
        close = nearest(key.text, known)
        fix = f"did you mean '{close}'?" if close else f"known keys: {', '.join(known)}"
        self._fault(Code.E_KEY, f"unknown key '{path}{key.text}'", key.span, fix)

    def _fault(self, code: Code, message: str, span: SourceSpan, fix: str = "") -> None:
        self._image.report([Diagnostic(code=code, message=message, span=span, fix=fix)])


def _site(arguments: Mapping, path: str) -> Site:
    return Site(
        span=arguments.span,
        arguments={key.text: value.span for key, value in arguments.entries},
        items={
            key.text: tuple(item.span for item in value.items)
            for key, value in arguments.entries
            if isinstance(value, Sequence)
        },
        keys=dict(_key_places(arguments, "")),
        label=path,
        noun="key",
    )


def _key_places(mapping: Mapping, path: str) -> Iterator[tuple[str, SourceSpan]]:
    """Each key of a mapping and of those in it, by its path."""
    for key, value in mapping.entries:
        yield f"{path}{key.text}", key.span
        if isinstance(value, Mapping):
            yield from _key_places(value, f"{path}{key.text}.")


def _own_module(name: str) -> str | None:
    """The dotted name of one of this package's own modules or platforms."""
    packages = ("tdx.modules", "tdx.platforms")
    return next((f"{own}.{name}" for own in packages if name in dir(importlib.import_module(own))), None)


def _import_module_class(use: Scalar) -> Callable[..., Any]:
    """The class that a dotted name means; raises E_MODULE when there is none with ``apply(image)``."""
    package, _, name = use.text.rpartition(".")
    fix = "give the dotted name of a class that has apply(image)"
    if not package or not all(part.isidentifier() for part in use.text.split(".")):
        if (own := _own_module(use.text)) is not None:
            fix = f"write '{own}'"
        raise DiagnosticError.of(Code.E_MODULE, f"'{use.text}' is not the dotted name of a class", use.span, fix=fix)
    try:
        namespace = importlib.import_module(package)
    except Exception as error:
        message = f"cannot import '{package}': {type(error).__name__}: {error}"
        raise DiagnosticError.of(Code.E_MODULE, message, use.span, fix=fix) from error
    found = getattr(namespace, name, None)
    if found is None:
        close = nearest(name, [entry for entry in dir(namespace) if isinstance(getattr(namespace, entry), type)])
        hint = f"did you mean '{package}.{close}'?" if close else fix
        raise DiagnosticError.of(Code.E_MODULE, f"'{package}' has no class '{name}'", use.span, fix=hint)
    if not isinstance(found, type) or not callable(getattr(found, "apply", None)):
        raise DiagnosticError.of(Code.E_MODULE, f"'{use.text}' is no module: it has no apply(image)", use.span, fix=fix)
    return found
