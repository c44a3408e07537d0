"""Laws of the frontends: a recipe in either form is the same image, and no text makes anything but a diagnostic."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from tdx._load import load_recipe
from tdx.yaml.nodes import parse_document, to_python
from tdxc.diagnostics import DiagnosticError
from tdxc.ir import AuthoredImage
from tdxc.ir.codec import digest

Data = dict[str, Any]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)
_COMMAND = _LINE.map(lambda text: f"/usr/bin/x {text}")
_SEGMENT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8)
_PATH = st.lists(_SEGMENT.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=3).map(
    lambda names: "/" + "/".join(names)
)
_PLAIN_PATH = st.from_regex(r"/[a-z-]{1,8}(/[a-z_]{1,8})?", fullmatch=True)
_USER = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True)
_WORD = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,8}", fullmatch=True)
_UNIT = st.from_regex(r"[a-z][a-z0-9@-]{0,8}\.(service|target|socket|timer)", fullmatch=True)
_PACKAGE = st.from_regex(r"[a-z0-9][a-z0-9+.-]{0,8}(=[0-9][0-9.]{0,3})?", fullmatch=True)
_MODE = st.sampled_from([0o644, 0o755, 0o600, 0o4755, "0640", "750"])
_UNITS = st.lists(_UNIT, max_size=2)
_VALUE = _LINE | st.integers(-5, 10**6) | st.booleans()
_SECTIONS = st.dictionaries(
    st.sampled_from(["Unit", "Service", "Install", "X-Own"]),
    st.dictionaries(_WORD.filter(str.isalpha), _VALUE | st.lists(_VALUE, max_size=2), max_size=2),
    max_size=2,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORD, inner, max_size=2),
    max_leaves=4,
)


def _is_no_switch(value: object) -> bool:
    """An option's value that is not refused as a misspelt tristate."""
    return not isinstance(value, str) or value.lower() not in {"yes", "no", "on", "off", "true", "false"}


def _of(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Data]:
    return st.fixed_dictionaries(required, optional=optional)


EACH: dict[str, tuple[str, st.SearchStrategy[Data]]] = {
    "files": ("file", _of({"dest": _PATH, "content": _TEXT}, mode=_MODE, owner=_USER, group=_USER)),
    "templates": ("template", _of({"dest": _PATH, "content": _TEXT}, vars=st.dictionaries(_WORD, _JSON, max_size=2))),
    "directories": ("directory", _of({"path": _PATH}, mode=_MODE, owner=_USER)),
    "symlinks": ("symlink", _of({"path": _PATH, "target": _LINE.filter(bool)})),
    "groups": ("group", _of({"name": _USER}, gid=st.integers(1, 65533))),
    "users": (
        "user",
        _of(
            {"name": _USER},
            uid=st.integers(1, 65533),
            groups=st.lists(_USER, max_size=2),
            home=_PATH,
            shell=_PATH,
            system=st.booleans(),
            description=_LINE,
        ),
    ),
    "services": (
        "service",
        _of(
            {"name": _WORD, "exec": _COMMAND},
            type=st.sampled_from(["exec", "oneshot"]),
            user=_USER,
            after=_UNITS,
            wanted_by=_UNITS,
            environment=st.dictionaries(_WORD.filter(str.isalpha), _TEXT, max_size=2),
            restart=st.sampled_from(["no", "always"]),
            restart_sec=st.just("5s"),
            ports=st.lists(st.integers(1, 65535)),
            writes=st.lists(_PATH, max_size=2),
            hardening=st.sampled_from(["default", "none"]),
            early=st.booleans(),
            extra_unit=_SECTIONS,
            description=_LINE,
        ),
    ),
    "units": ("unit", _of({"name": _UNIT, "sections": _SECTIONS}, wanted_by=_UNITS, enabled=st.booleans())),
    "sockets": ("socket", _of({"name": _WORD}, listen_stream=st.lists(_LINE, max_size=2), accept=st.booleans())),
    "timers": ("timer", _of({"name": _WORD}, on_boot_sec=st.just("5min"), persistent=st.booleans())),
    "targets": ("target", _of({"name": _WORD}, wants=_UNITS, allow_isolate=st.booleans())),
    "mounts": ("mount", _of({"where": _PLAIN_PATH, "what": _COMMAND}, type=st.just("ext4"), options=st.lists(_WORD))),
    "drop_ins": ("drop_in", _of({"unit": _UNIT, "sections": _SECTIONS}, name=_WORD)),
    "run": ("run", _of({"command": _COMMAND}, phase=st.sampled_from(["prepare", "finalize"]), name=_WORD)),
    "on_boot": (
        "on_boot",
        _of({"command": _COMMAND}, name=_WORD, priority=st.integers(0, 9999), after=st.lists(_WORD)),
    ),
    "suites": ("suite", _of({"name": _WORD}, priority=st.integers(1, 1000))),
}

CALLS: dict[str, st.SearchStrategy[Data]] = {
    "network": _of({}, vsock=st.booleans(), resolver=st.booleans(), firewall_rules=st.lists(_LINE, max_size=2)),
    "ssh": _of({}, enabled=st.booleans(), port=st.integers(1, 65535), authorized_keys=st.lists(_LINE, max_size=2)),
    "debloat": _of({}, enabled=st.booleans(), keep=st.lists(_LINE, max_size=2), keep_units=_UNITS),
    "encryption": _of({"type": st.just("luks2"), "key_source": st.sampled_from(["tpm", "random"])}),
    "efi_stub": _of({"version": _WORD}),
}

SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "init": st.sampled_from(["systemd", "busybox"]) | _PATH,
    "default_target": st.just("my.target"),
    "firmware": st.sampled_from(["ovmf", "seabios"]),
    "locale": st.none() | st.just("C.UTF-8"),
    "docs": st.booleans(),
    "cloud": st.sampled_from(["qemu", "azure", "gcp"]),
}

WORDS: dict[str, st.SearchStrategy[list[str]]] = {
    "install": st.lists(_PACKAGE, max_size=3),
    "build_packages": st.lists(_PACKAGE, max_size=2),
    "output_targets": st.lists(st.sampled_from(["qemu", "azure", "gcp"]), max_size=2),
}

VALUES: dict[str, tuple[str, st.SearchStrategy[Data]]] = {
    "kernel": (
        "img.kernel = Kernel.tdx(**{})",
        _of(
            {},
            cmdline=_LINE,
            package=_PACKAGE,
            config=st.dictionaries(_WORD.map(lambda w: w.replace("-", "_")), _VALUE.filter(_is_no_switch)),
        ),
    ),
    "policy": ("img.set_policy(Policy(**{}))", _of({}, require_integrity=st.booleans())),
}

LAYER = st.fixed_dictionaries(
    {},
    optional={
        **{key: st.lists(strategy, min_size=1, max_size=2) for key, (_method, strategy) in EACH.items()},
        **CALLS,
        **SETTINGS,
        **WORDS,
        **{key: strategy for key, (_template, strategy) in VALUES.items()},
        "modules": st.just([{"use": "tdx.modules.TimeSynchronisation", "with": {"servers": ["a.example.org"]}}]),
    },
)

IDENTITY = st.fixed_dictionaries(
    {},
    optional={
        "name": _WORD,
        "base": st.sampled_from(["debian/trixie", "alpine/3.20"]),
        "version": _WORD,
        "reproducible": st.booleans(),
        "snapshot": st.just("20251113T083151Z"),
    },
)


def _python(identity: Data, layer: Data, profiles: dict[str, Data]) -> str:
    lines = ["from tdx import Image, Kernel", "from tdx.policy import Policy",
             "from tdx.modules import TimeSynchronisation", "img = Image()"]  # fmt: skip
    lines += [f"img.{name} = {value!r}" for name, value in identity.items()]
    lines += _layer_lines(layer)
    for name, delta in profiles.items():
        lines += [f"with img.profile({name!r}):", "    pass", *(f"    {line}" for line in _layer_lines(delta))]
    return "\n".join(lines) + "\n"


def _layer_lines(layer: Data) -> list[str]:
    lines: list[str] = []
    for key, value in layer.items():
        if key in EACH:
            lines += [f"img.{EACH[key][0]}(**{item!r})" for item in value]
        elif key in CALLS:
            lines.append(f"img.{key}(**{value!r})")
        elif key in SETTINGS:
            lines.append(f"img.{key} = {value!r}")
        elif key in WORDS:
            lines.append(f"img.{key}(*{value!r})")
        elif key == "modules":
            lines.append("TimeSynchronisation(servers=['a.example.org']).apply(img)")
        else:
            lines.append(VALUES[key][0].format(repr(value)))
    return lines


def _flow(value: Any) -> str:
    """YAML in its JSON-like form, every character that YAML does not print escaped."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(ch if " " <= ch <= "~" and ch not in '"\\' else f"\\U{ord(ch):08x}" for ch in value) + '"'


def _block(value: Data) -> str:
    """YAML in ruamel's own block form."""
    stream = io.StringIO()
    dumper: Any = YAML(typ="safe", pure=True)
    dumper.default_flow_style = False
    dumper.allow_unicode = False
    dumper.width = 1_000_000
    dumper.sort_base_mapping_type_on_output = False
    dumper.dump(value, stream)
    return stream.getvalue()


def _check_places(error: DiagnosticError) -> None:
    """Every fault knows its line and column."""
    assert error.diagnostics
    assert all(fault.span.line > 0 and fault.span.column > 0 for fault in error.diagnostics)


def _load(text: str, suffix: str) -> AuthoredImage:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"recipe{suffix}"
        path.write_text(text, encoding="utf-8", newline="")
        return load_recipe(path).image


@settings(
    max_examples=150,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(IDENTITY, LAYER, st.dictionaries(_WORD, LAYER, max_size=2))
def test_a_recipe_in_either_form_is_the_same_image(identity: Data, layer: Data, profiles: dict[str, Data]) -> None:
    data = identity | layer | ({"profiles": profiles} if profiles else {})
    python = _load(_python(identity, layer, profiles), ".py")
    for text in (_flow(data), _block(data)):
        yaml = _load(text or "{}", ".yaml")
        assert yaml == python
        assert digest(yaml) == digest(python)


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**30), 10**30) | _TEXT,
                    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner), max_leaves=20))  # fmt: skip
def test_yaml_data_is_read_back_as_it_was_written(value: Any) -> None:
    for text in (_flow({"a": value}), _block({"a": value})):
        node = parse_document(text, "r.yaml")
        assert node is not None
        assert to_python(node) == {"a": value}


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("{}[]:,-?&*!|>'\"%@`# \n\tab01.~<", max_size=60))
@example("\ufeff\ufeff")
@example("a: &a [*a]")
@example("? ? ? a")
@example("- - - -\n -")
@example("%TAG ! x\n--- !a b")
@example("!<!> a")
@example("&a")
@example("*a")
def test_no_text_makes_the_yaml_frontend_fail_without_a_diagnostic(text: str) -> None:
    try:
        _load(text, ".yaml")
    except DiagnosticError as error:
        _check_places(error)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(EXAMPLES.glob("*.yaml"))), st.data())
def test_no_damage_to_an_example_makes_anything_but_a_diagnostic(path: Path, data: st.DataObject) -> None:
    text = path.read_text().replace("full_api/", "")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    damaged = text[:start] + data.draw(st.text("{}[]:,-&*!|'\"#% \n0a", max_size=4)) + text[end:]
    try:
        _load(damaged, ".yaml")
    except DiagnosticError as error:
        _check_places(error)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_the_loader_fail_without_a_diagnostic(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("recipe.yaml", "recipe.py"):
            path = Path(folder) / name
            path.write_bytes(b"(" + data if name.endswith("py") else data)
            try:
                load_recipe(path)
            except DiagnosticError as error:
                _check_places(error)
