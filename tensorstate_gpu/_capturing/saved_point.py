"""The state of a capture point that keeps counts: integers, strings and torch tensors."""

import json
from collections.abc import Mapping
from typing import Any

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.saved_arrays import SavedPart, tensors_for_arrays
from tensorstate_gpu._capturing.intake import Intake
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.saved_counts import restored_counts, saved_counts

_FORMAT = 1


def saved_point(intake: Intake) -> dict[str, object]:
    """Return what was captured, and what is known of the layer."""
    counts = intake.accumulator
    assert counts is None or isinstance(counts, CountsAccumulator)
    return {
        "format": _FORMAT,
        "name": intake.name,
        "firing": _rule_of(intake),
        "facts": json.dumps(intake.log.facts().to_json()),
        "axis": json.dumps([intake.axis, intake.axis_origin, intake.inputs_unknown]),
        # A list: empty before the first batch.
        "counts": [] if counts is None else [tensors_for_arrays(saved_counts(counts))],
    }


def load_point(intake: Intake, state: Mapping[str, Any]) -> None:
    """Go on from what saved_point() has returned. Raises TypeError or ValueError if it is not."""
    if not isinstance(state, Mapping) or not {"format", "name", "firing"} <= state.keys():
        raise TypeError(
            f"state must be of state_dict() of a capture point, got {type(state).__name__}"
        )
    if (found := integer(state["format"], "format")) != _FORMAT:
        raise ValueError(f"state has the format {found}; this version reads {_FORMAT}")
    for what, theirs, ours in (
        ("name", state["name"], intake.name),
        ("firing rule and groups", state["firing"], _rule_of(intake)),
    ):
        if theirs != ours:
            raise ValueError(f"{intake.name}: state has another {what}: {theirs}, not {ours}")
    saved = SavedPart(state)
    counts = [restored_counts(part) for part in saved.listed_parts("counts")]
    facts = LayerFacts.from_json(json.loads(saved.text("facts")))
    axis, axis_origin, inputs_unknown = json.loads(saved.text("axis"))
    with intake.lock:
        intake.reset(None, None)
        intake.axis, intake.axis_origin, intake.inputs_unknown = axis, axis_origin, inputs_unknown
        intake.accumulator = counts[0] if counts else None
        intake.log.begin(facts)


def _rule_of(intake: Intake) -> str:
    options = intake.options
    return json.dumps({**options.firing_rule(), "groups": options.groups or 0})
