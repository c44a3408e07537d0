"""Say in words why a boot's events differ from the prediction.

The likeliest cause is read off the pattern of differences over all registers: which UKI sections changed, whether the
image changed although no section did, whether only the memory layout moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tdxc_runtime.measure.causes.image import (
    command_line_cause,
    image_cause,
    initrd_cause,
    kernel_cause,
    section_cause,
    stub_cause,
)
from tdxc_runtime.measure.causes.machine import (
    boot_order_cause,
    boot_path_cause,
    firmware_cause,
    memory_cause,
    partition_cause,
    variable_cause,
)
from tdxc_runtime.measure.causes.model import Cause as Cause
from tdxc_runtime.measure.causes.model import Kind as Kind
from tdxc_runtime.measure.causes.view import View, both_sides, name_of, origin_clause
from tdxc_runtime.measure.differences import Difference, topic_of_predicted
from tdxc_runtime.measure.events import PredictedEvent

# Likeliest first; each says its cause or nothing.
_RULES = (
    kernel_cause,
    command_line_cause,
    initrd_cause,
    stub_cause,
    memory_cause,
    firmware_cause,
    variable_cause,
    boot_order_cause,
    partition_cause,
    section_cause,
    image_cause,
    boot_path_cause,
)


def likely_causes(
    found: Sequence[Difference],
    predicted: Iterable[PredictedEvent],
    hints: Mapping[bytes, str] | None = None,
) -> tuple[Cause, ...]:
    """The causes that explain the differences, the likeliest first; empty for no differences.

    ``predicted`` is the whole prediction that was compared: what it could have shown matters as much as what it shows.
    ``hints`` maps digests to what they would mean ("the memory layout of 8 GiB"); a logged digest that is among them is
    named in the sentence.
    """
    if not found:
        return ()
    if all(d.at_end for d in found):
        return (_truncated(found),)
    view = View(found, frozenset(topic_of_predicted(event)[0] for event in predicted), hints or {})
    causes = [cause for rule in _RULES if (cause := rule(view)) is not None]
    return tuple(causes) or (_unknown(found),)


def _truncated(found: Sequence[Difference]) -> Cause:
    first = found[0].expected
    what = f", the first of them: {name_of(first)} in {found[0].register}" if first is not None else ""
    count = "the last event is" if len(found) == 1 else f"the last {len(found)} events are"
    return Cause(
        kind=Kind.TRUNCATED_LOG,
        sentence=f"the log is truncated, or the boot went no further: all events in it are as predicted, but {count} "
        f"missing{what}",
    )


def _unknown(found: Sequence[Difference]) -> Cause:
    return Cause(
        kind=Kind.UNKNOWN, sentence=f"the first difference is this: {both_sides(found[0])}{origin_clause(found[0])}"
    )
