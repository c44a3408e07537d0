"""The boot order as a picture: plain SVG text, made without any tool, the same bytes for the same image.

Each box is a unit or a boot step; it may start when all boxes with a line into its left side are done. Lines that
follow from others are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from xml.sax.saxutils import escape

from tdxc import records
from tdxc.ir import BootUnit, ResolvedImage

_CHARACTER = 7.25
_BOX_HEIGHT = 24
_ROW = 34
_COLUMN_GAP = 56
_PADDING = 9
_MARGIN = 20
_HEADER = 56
"""Sizes in SVG user units; ``_CHARACTER`` is the advance of a 12 px monospace glyph."""

_FILL = {"unit": "#d7e8fa", "step": "#fbe3c4", "target": "#dff0d8", "system": "#eeeeee"}
_LEGEND = (
    ("unit", "unit of the image"),
    ("step", "boot step"),
    ("target", "target of the image"),
    ("system", "unit of systemd or a package"),
)


@records.frozen(kw_only=True)
class _Box:
    """A placed unit: left edge, vertical centre and width."""

    unit: BootUnit
    kind: str
    x: float
    y: float
    width: float


def boot_graph_svg(image: ResolvedImage) -> str:
    """The graph of ``image.boot_order`` as the text of an SVG file."""
    waits = reduced_waits(image.boot_order)
    boxes = _place(image, waits)
    width = max((box.x + box.width for box in boxes.values()), default=0.0)
    width = max(width, _MARGIN + 720.0) + _MARGIN
    height = max((box.y for box in boxes.values()), default=float(_HEADER)) + _BOX_HEIGHT / 2 + _MARGIN
    title = escape(f"Boot order of {image.name}")
    size = f'width="{width:.0f}" height="{height:.0f}"'
    view = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="monospace" font-size="12" role="img">',
        f"<title>{title}</title>",
        f'<rect {size} fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="24" font-size="15" font-weight="bold">{title}</text>',
        *_legend(),
        '<g fill="none" stroke="#7a8793" stroke-width="1.2">',
        *(_line(boxes[earlier], boxes[later]) for later in waits for earlier in waits[later]),
        "</g>",
        *(line for box in boxes.values() for line in _box(box)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def reduced_waits(rows: Iterable[BootUnit]) -> dict[str, tuple[str, ...]]:
    """For each unit the units that it waits for directly; what follows from another wait is left out.

    ``rows`` stand in boot order, as in ``ResolvedImage.boot_order``.
    """
    before: dict[str, set[str]] = {}
    reduced: dict[str, tuple[str, ...]] = {}
    for row in rows:
        known = [name for name in row.after if name in before]
        implied = set().union(*(before[name] for name in known))
        reduced[row.name] = tuple(name for name in known if name not in implied)
        before[row.name] = implied | set(known)
    return reduced


def _place(image: ResolvedImage, waits: Mapping[str, tuple[str, ...]]) -> dict[str, _Box]:
    """Columns by the longest chain of waits; within a column, boxes near the middle of what they wait for."""
    column: dict[str, int] = {}
    columns: list[list[BootUnit]] = []
    for row in image.boot_order:
        column[row.name] = max((column[name] + 1 for name in waits[row.name]), default=0)
        while len(columns) <= column[row.name]:
            columns.append([])
        columns[column[row.name]].append(row)
    boxes: dict[str, _Box] = {}
    x = float(_MARGIN)
    for unplaced in columns:
        rows = sorted(unplaced, key=lambda row: (_middle(waits[row.name], boxes), row.name))
        width = max(len(row.name) for row in rows) * _CHARACTER + 2 * _PADDING
        for place, row in enumerate(rows):
            y = float(_HEADER + _MARGIN + place * _ROW)
            boxes[row.name] = _Box(unit=row, kind=_kind(row.name, image), x=x, y=y, width=width)
        x += width + _COLUMN_GAP
    return boxes


def _middle(names: tuple[str, ...], boxes: Mapping[str, _Box]) -> float:
    return sum(boxes[name].y for name in names) / len(names) if names else 0.0


def _kind(name: str, image: ResolvedImage) -> str:
    if any(step.file_name == name for step in image.ordered_steps):
        return "step"
    if all(unit.name != name for unit in image.units):
        return "system"
    return "target" if name.endswith(".target") else "unit"


def _legend() -> Iterator[str]:
    x = float(_MARGIN)
    for kind, text in _LEGEND:
        yield f'<rect x="{x:.0f}" y="34" width="14" height="14" rx="3" fill="{_FILL[kind]}" stroke="#7a8793"/>'
        yield f'<text x="{x + 20:.0f}" y="45">{text}</text>'
        x += 20 + len(text) * _CHARACTER + 24


def _line(earlier: _Box, later: _Box) -> str:
    x1, x2 = earlier.x + earlier.width, later.x
    bend = (x2 - x1) / 2
    return (
        f'<path d="M{x1:.1f} {earlier.y:.1f} C{x1 + bend:.1f} {earlier.y:.1f} '
        f'{x2 - bend:.1f} {later.y:.1f} {x2:.1f} {later.y:.1f}"/>'
    )


def _box(box: _Box) -> Iterator[str]:
    name = escape(box.unit.name)
    yield (
        f'<rect x="{box.x:.1f}" y="{box.y - _BOX_HEIGHT / 2:.1f}" width="{box.width:.1f}" height="{_BOX_HEIGHT}" '
        f'rx="5" fill="{_FILL[box.kind]}" stroke="#7a8793"/>'
    )
    yield f'<text x="{box.x + _PADDING:.1f}" y="{box.y + 4:.1f}">{name}</text>'
