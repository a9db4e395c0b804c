"""Keras 3: what copies and files of a rebuilt model keep of its capture points' places in it."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from .passes import ModelPasses
from .points import KerasPoint

_FACTS = ("has_other_axis_0", "counts_positions")  # that the graph told when they were attached


def config_of_place(point: KerasPoint) -> dict[str, Any] | None:
    """Return what is known of a point's place in its model; None if it was placed by hand."""
    if point.model_passes is None:
        return None
    return {
        "call_of": point.call_of,
        "number": 1 if point.first is None else 2 + [*point.first.later_calls].index(point),
        "axis_origin": point.intake.axis_origin,
        "mask": point.options.mask,
        **{name: getattr(point, name) for name in _FACTS},
    }


def put_in_place(point: KerasPoint, place: Mapping[str, Any]) -> None:
    """Tell a new point what config_of_place() has returned for the one that it is a copy of."""
    point.options = dataclasses.replace(point.options, mask=place["mask"])
    point.intake.log.call_of, point.intake.axis_origin = place["call_of"], place["axis_origin"]
    point.number_in_copy = place["number"]
    for name in _FACTS:
        setattr(point, name, place[name])


def join(points: Collection[KerasPoint]) -> ModelPasses | None:
    """Let points that were copied with their model count its passes; return these, if there are."""
    copied = [each for each in points if each.number_in_copy and each.model_passes is None]
    if not copied:
        return None
    passes, by_name = ModelPasses(copied[0].options), {point.name: point for point in copied}
    for point in sorted(copied, key=lambda each: each.number_in_copy):
        point.belong_to(passes)
        if (first := by_name.get(point.call_of or "")) is not None:
            first.later_calls, point.first = (*first.later_calls, point), first
    return passes
