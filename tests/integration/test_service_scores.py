"""Every service that the examples' trees hold, scored by the real systemd: 2.0 at most, or a reason in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.systemd import security_scores
from tdxc import driver
from tdxc.diagnostics import SourceSpan
from tdxc.passes.harden_services import ImageFacts, harden
from tdxc.passes.network_units import udhcpc_unit
from tdxc.tree import TreeFile
from tdxc_emitters.systemd.unit_file import render_unit

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "golden"
LIMIT = 2.0
CHOSEN = {"full_api/mkosi.extra/usr/lib/systemd/system/report.service"}
"""Services whose recipe says ``hardening="none"``."""


def _documented() -> dict[str, float]:
    """Unit and score of each exception in the table of docs/services.md."""
    rows = re.findall(r"^\| `(\S+\.service)` \| ([0-9.]+) \| \S", (ROOT / "docs/services.md").read_text(), re.MULTILINE)
    return {name: float(score) for name, score in rows}


MODULES = """
from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration, SecretDelivery, Tdxs
from tdx.secrets import SecretTarget

img = Image("modules")
img.network(vsock=True)
KeyGeneration(strategy="tpm").apply(img)
DiskEncryption(device="/dev/vda3").apply(img)
Tdxs().apply(img)
SecretDelivery(secrets=[{"name": "token", "targets": [SecretTarget.file("/run/x/token")]}]).apply(img)
"""
"""Units that no example has, at their most open."""


def _generated(folder: Path) -> dict[str, str]:
    """Every service of every example, in the image and in each profile, and those of :data:`MODULES` and udhcpc."""
    found = {
        str(path.relative_to(GOLDEN)): path.read_text()
        for path in sorted(GOLDEN.rglob("*.service"))
        if not path.is_symlink() and not {".tdxc"} & set(path.parts)
    }
    recipe = folder / "modules.py"
    recipe.write_text(MODULES)
    tree = driver.compile_image(driver.load_recipe(str(recipe)).image).tree
    entries = {f"modules/{path}": entry for path, entry in tree.entries.items() if path.endswith(".service")}
    found |= {path: entry.data.decode() for path, entry in entries.items() if isinstance(entry, TreeFile)}
    unit = harden(udhcpc_unit(SourceSpan(), firewall=True), ImageFacts())
    return {**found, unit.name: render_unit(unit, "test")}


def test_every_generated_service_scores_two_at_most_or_has_its_reason(tmp_path: Path) -> None:
    scores = security_scores({name: text for name, text in _generated(tmp_path).items() if name not in CHOSEN})
    assert len(scores) >= 10
    allowed = _documented()
    over = {name: score for name, score in scores.items() if score > allowed.get(Path(name).name, LIMIT)}
    assert over == {}
    worst = {unit: max(score for name, score in scores.items() if Path(name).name == unit) for unit in allowed}
    assert {unit for unit, score in worst.items() if score <= LIMIT} == set(), "exceptions in the table that are none"
