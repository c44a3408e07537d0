"""Every service that the examples' trees hold, scored by the real systemd: 2.0 at most, or a reason in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.systemd import security_scores
from tdxc.diagnostics import SourceSpan
from tdxc.passes.harden_services import ImageFacts, harden
from tdxc.passes.network_units import udhcpc_unit
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


def _generated() -> dict[str, str]:
    """Every service of every example, in the image and in each profile, by its path below golden/."""
    found = {
        str(path.relative_to(GOLDEN)): path.read_text()
        for path in sorted(GOLDEN.rglob("*.service"))
        if not path.is_symlink() and not {".tdxc"} & set(path.parts)
    }
    facts = ImageFacts()
    unit = harden(udhcpc_unit(SourceSpan(), firewall=True), facts)
    return {**found, unit.name: render_unit(unit, "test")}


def test_every_generated_service_scores_two_at_most_or_has_its_reason() -> None:
    scores = security_scores({name: text for name, text in _generated().items() if name not in CHOSEN})
    assert len(scores) >= 10
    allowed = _documented()
    over = {name: score for name, score in scores.items() if score > allowed.get(Path(name).name, LIMIT)}
    assert over == {}
    worst = {unit: max(score for name, score in scores.items() if Path(name).name == unit) for unit in allowed}
    assert worst == allowed, "the table of docs/services.md says what the exceptions score"
    assert min(allowed.values()) > LIMIT, "an exception that is none"
