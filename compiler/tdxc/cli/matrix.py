"""``tdxc measure --matrix``: many machines at once, and which inputs each register depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tdxc_runtime.measure.matrix import Matrix
    from tdxc_runtime.measure.request import MeasurementRequest


def print_matrix(
    request: MeasurementRequest,
    *,
    firmwares: tuple[Path, ...],
    qemus: tuple[Path, ...],
    memories: tuple[int, ...],
    vcpus: tuple[int, ...],
    images: tuple[Path, ...],
    output_format: str,
) -> None:
    """Measure every combination of the given values and print each register's distinct values."""
    from tdxc_runtime.measure.matrix import Axes, measure_matrix

    axes = Axes(firmwares=firmwares, qemus=qemus, memories=memories, vcpus=vcpus, images=images)
    matrix = measure_matrix(request, axes)
    if output_format == "json":
        click.echo(json.dumps(matrix_data(matrix), indent=1))
        return
    click.echo(f"{len(matrix.combinations)} combinations of {', '.join(matrix.axes) or 'nothing'}")
    for register, distinct in matrix.distinct.items():
        depends = ", ".join(matrix.depends_on[register]) or "none of these"
        click.echo(f"{register.name}: {len(distinct)} distinct, depends on {depends}")
        for value in distinct:
            shown = ", ".join(v.hex() for v in value.values) or "pending"
            example = " ".join(f"{name}={_shown(name, choice)}" for name, choice in value.choices[0].items())
            more = f" and {len(value.choices) - 1} more" if len(value.choices) > 1 else ""
            click.echo(f"  {shown}  {example}{more}")


def _shown(axis: str, choice: str) -> str:
    """A choice as its option takes it; memory is in bytes."""
    if axis != "memory" or not choice.isdecimal():
        return choice
    size = int(choice)
    return f"{size >> 30}G" if size % (1 << 30) == 0 else f"{size >> 20}M"


def matrix_data(matrix: Matrix) -> dict[str, object]:
    """The matrix as plain JSON data."""
    return {
        "axes": list(matrix.axes),
        "combinations": len(matrix.combinations),
        "registers": {
            register.name: {
                "depends_on": list(matrix.depends_on[register]),
                "distinct": [
                    {"values": [v.hex() for v in value.values], "choices": [dict(c) for c in value.choices]}
                    for value in distinct
                ],
            }
            for register, distinct in matrix.distinct.items()
        },
    }
