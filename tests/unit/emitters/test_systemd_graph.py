"""The SVG is well-formed, complete, the same each time, and draws no line twice over."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from support.images import at, image, run, unit
from tdxc.ir import BootStep, BootUnit, ResolvedImage
from tdxc.passes.init_priority import InitPriority
from tdxc.passes.order_units import OrderUnits
from tdxc_emitters.systemd.graph import boot_graph_svg, reduced_waits

SVG = "{http://www.w3.org/2000/svg}"


def ordered(name: str = "test") -> ResolvedImage:
    units = (unit("app.service"), unit("web.service", After="app.service"), unit("web.socket"))
    steps = (BootStep(span=at(2), name="keys", script="x"), BootStep(span=at(3), name="disks", script="x"))
    before, _ = run(InitPriority(), image(name=name, units=units, boot_steps=steps))
    after, found = run(OrderUnits(), before)
    assert not found
    return after


def test_every_unit_and_step_has_its_box() -> None:
    found = ordered()
    root = ET.fromstring(boot_graph_svg(found))  # noqa: S314 - our own text
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {row.name for row in found.boot_order} <= set(texts)
    assert len(list(root.iter(f"{SVG}path"))) == sum(len(names) for names in reduced_waits(found.boot_order).values())


def test_boxes_do_not_overlap_and_lines_go_right() -> None:
    root = ET.fromstring(boot_graph_svg(ordered()))  # noqa: S314 - our own text
    rects = [tuple(float(r.attrib[k]) for k in ("x", "y", "width", "height")) for r in root.iter(f"{SVG}rect")
             if "rx" in r.attrib]  # fmt: skip
    for i, (x, y, w, h) in enumerate(rects):
        for x2, y2, w2, h2 in rects[i + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    for path in root.iter(f"{SVG}path"):
        start, _, *_, end_x, _ = path.attrib["d"].replace("M", "").replace("C", "").split()
        assert float(start) < float(end_x)


def test_names_are_escaped_and_the_picture_is_the_same_each_time() -> None:
    found = ordered(name="a<b & c")
    assert "Boot order of a&lt;b &amp; c" in boot_graph_svg(found)
    assert boot_graph_svg(found) == boot_graph_svg(found)


def test_an_empty_order_is_still_a_picture() -> None:
    assert ET.fromstring(boot_graph_svg(image())).tag == f"{SVG}svg"  # noqa: S314 - our own text


def test_waits_that_follow_from_others_are_left_out() -> None:
    rows = (
        BootUnit(name="a"),
        BootUnit(name="b", after=("a",)),
        BootUnit(name="c", after=("a", "b")),
        BootUnit(name="d", after=("a", "c", "unknown")),
    )
    assert reduced_waits(rows) == {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}
