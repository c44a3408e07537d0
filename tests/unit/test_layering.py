"""Dependencies point one way: who may import whom, by longest matching prefix."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"tdxc": "compiler/tdxc", "tdx": "frontends/tdx", "tdxc_emitters": "emitters/tdxc_emitters",
           "tdxc_runtime": "runtime/tdxc_runtime"}  # fmt: skip

FOUNDATION = ("tdxc.records", "tdxc.diagnostics", "tdxc.ir", "tdxc.tree", "tdxc.quoting", "tdxc.grammar")
_BAKING = ("tdxc.driver", "tdxc.bake", "tdxc.baked", "tdxc_runtime")
ANYTHING = ("tdxc", "tdx", "tdxc_emitters", "tdxc_runtime")

ALLOWED: dict[str, tuple[str, ...]] = {
    "tdxc.records": (),
    "tdxc.diagnostics": ("tdxc.records",),
    "tdxc.diagnostic_texts": ("tdxc.diagnostics",),
    "tdxc.render": ("tdxc.diagnostics",),
    "tdxc.ir": ("tdxc.records", "tdxc.diagnostics", "tdxc.ir"),
    "tdxc.tree": ("tdxc.records", "tdxc.diagnostics"),
    "tdxc.quoting": ("tdxc.diagnostics",),
    "tdxc.grammar": ("tdxc.records", "tdxc.diagnostics", "tdxc.ir", "tdxc.grammar"),
    "tdxc.emission": FOUNDATION,
    "tdxc.passes": (*FOUNDATION, "tdxc.passes"),
    "tdxc.pipeline": (*FOUNDATION, "tdxc.passes"),
    "tdxc.observers": (*FOUNDATION, "tdxc.pipeline"),
    "tdxc.lock": (*FOUNDATION, "tdxc.lock"),
    "tdxc.policy": FOUNDATION,
    "tdxc.combination": FOUNDATION,
    "tdxc.explain": FOUNDATION,
    "tdxc.overrides": FOUNDATION,
    "tdxc.writer": FOUNDATION,
    "tdx": (*FOUNDATION, "tdxc.render", "tdx"),
    "tdx._verbs": (*FOUNDATION, *_BAKING, "tdxc.render", "tdx"),
    "tdxc_emitters": (*FOUNDATION, "tdxc.emission", "tdxc_emitters"),
    "tdxc_runtime": ("tdxc.diagnostics", "tdxc_runtime"),
    "tdxc.driver": ANYTHING,
    "tdxc.bake": ANYTHING,
    "tdxc.baked": ANYTHING,
    "tdxc.manifests": ANYTHING,
    "tdxc.compare": ANYTHING,
    "tdxc.cli": ANYTHING,
    "tdxc": (),
}
"""Module prefix to what it may import of the project. ``tdx._verbs`` is where the DSL reaches up to the driver."""


def _modules() -> list[tuple[str, Path]]:
    found = []
    for package, folder in SOURCES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = (package, *path.relative_to(ROOT / folder).with_suffix("").parts)
            found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _rule(module: str) -> tuple[str, ...]:
    return ALLOWED[max((prefix for prefix in ALLOWED if _is_below(module, prefix)), key=len)]


def _imports(module: str, path: Path) -> list[tuple[int, str]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (above, node.module) if part)
            found += [(node.lineno, f"{source}.{alias.name}") for alias in node.names]
    return [(line, name) for line, name in found if name.partition(".")[0] in SOURCES]


def violations(modules: list[tuple[str, Path]]) -> list[str]:
    return [
        f"{path}:{line}: {module} imports {name}"
        for module, path in modules
        for line, name in _imports(module, path)
        if name != "tdxc.__version__" and not any(_is_below(name, prefix) for prefix in _rule(module))
    ]


def test_dependencies_point_one_way() -> None:
    assert violations(_modules()) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [("tdxc_emitters.mkosi", "import tdx\n"), ("tdxc.ir.node", "from tdxc import driver\n"),
     ("tdxc.passes.x", "from tdxc_emitters import emit_image\n"), ("tdx.image", "import tdxc_runtime.vm\n"),
     ("tdxc.ir.node", "from ..passes import base\n"), ("tdxc.ir.node", "from .. import driver\n")],
)  # fmt: skip
def test_a_wrong_import_is_found(tmp_path: Path, module: str, text: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(text)
    assert violations([(module, path)])


def test_every_package_is_typed() -> None:
    assert all((ROOT / folder / "py.typed").is_file() for folder in SOURCES.values())
