"""Attachment: which layers of a model are to be captured, where and how, checked beforehand."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

from tensorstate_gpu._arguments import choice
from tensorstate_gpu._arrays.frameworks import bridge_of
from tensorstate_gpu._capturing.bridge_protocol import Bridge, Chosen
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.choosing import Missing, as_patterns, choose
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions
from tensorstate_gpu._capturing.run_origin import (
    OF_CHOICE,
    OF_MODEL,
    origin_of_model,
    origin_of_options,
)
from tensorstate_gpu._layers.capture_warnings import warn_of_indices
from tensorstate_gpu.errors import NotCapturable

Method = Literal["before", "after", "both"]
# What capture() and build_efficiency_model() take beside their options.
_NAMED = ("attach_to", "exclude", "method", "storage_path", "missing")


@dataclass(frozen=True, slots=True)
class Attachment:
    """Layers of a model, and how to capture them.

    ``others``: the other names of layers that are registered under several, by the first.
    ``origin``: what the page of a report says of the model and of these arguments. ``optional``:
    layers that only ``"*"`` stands for, by name.
    """

    bridge: Bridge
    method: Method
    chosen: Chosen
    others: Mapping[str, Sequence[str]]
    options: CaptureOptions
    origin: Mapping[str, str]
    optional: frozenset[str] = frozenset()

    @property
    def places(self) -> tuple[str, ...]:
        """The places at each layer."""
        return self.bridge.METHODS[self.method]

    def chosen_in(self, model: Any) -> Chosen:
        """Return the layers of these names in a copy of the model."""
        layers = dict([self.bridge.itself(model), *self.bridge.layers(model)])
        return [(name, layers[name]) for name, _ in self.chosen]

    @property
    def point_names(self) -> set[str]:
        """The names of the capture points of the first call of each layer."""
        bridge, method = self.bridge, self.method
        return {
            bridge.point_name(name, place)
            for name, layer in self.chosen
            for place in bridge.places(layer, method)
        }

    def of_same_model(self, earlier: Sequence[CapturePoint]) -> "Attachment":
        """Name the model as earlier capture points do: in Keras, another may have replaced it."""
        known = earlier[0].origin if earlier else {}
        named = {what: known[what] for what in OF_MODEL if what in known}
        return replace(self, origin={**self.origin, **named})

    def tell_kept(self, points: Sequence[CapturePoint]) -> None:
        """Tell capture points of an earlier call which layers are chosen now."""
        asked = {what: told for what, told in self.origin.items() if what in OF_MODEL + OF_CHOICE}
        for each in points:
            options = {what: told for what, told in each.origin.items() if what not in OF_CHOICE}
            each.origin = {**asked, **options}

    def tell(self, points: Sequence[CapturePoint]) -> None:
        """Tell capture points where they are, and those of layers with several names of these."""
        for each in points:
            each.origin = self.origin
        by_name = {point.name: point for point in points}
        for name in self.optional:
            for place in self.places:
                if (point := by_name.get(self.bridge.point_name(name, place))) is not None:
                    point.is_optional = True
        for first, names in self.others.items():
            for place in self.places:
                if (point := by_name.get(self.bridge.point_name(first, place))) is not None:
                    point.answer_to([self.bridge.point_name(name, place) for name in names])


def plan_attachment(
    model: Any,
    attach_to: Any = None,
    exclude: Any = (),
    method: Method = "after",
    storage_path: Any = None,
    *,
    missing: Missing = "error",
    **options: Unpack[CaptureKeywords],
) -> Attachment:
    """Check the arguments of a capture, and choose the layers. Raises TypeError or ValueError.

    These are the arguments of capture() and build_efficiency_model(), which describes them.
    """
    bridge: Bridge = bridge_of(model)
    checked = CaptureOptions.from_arguments(storage_path, options, _NAMED)
    choice(method, "method", list(bridge.METHODS))
    bridge.check_attachable(model)
    exclude = as_patterns(exclude)
    attach_to = as_patterns(attach_to)
    origin = origin_of_model(model, attach_to, exclude, method) | origin_of_options(checked)
    chosen, others, optional = choose(bridge, model, attach_to, exclude, missing)
    if not checked.merge_calls:
        _check_names({name for name, _ in chosen})
    checked.check_layers([*(name for name, _ in chosen), *itertools.chain(*others.values())])
    checked = checked.under_other_names(others)
    attachment = Attachment(bridge, method, chosen, others, checked, origin, optional)
    _check_thresholds(attachment)
    _leave_out_indices(attachment)
    return attachment


def _check_names(names: set[str]) -> None:
    """Raise ValueError for a layer that has the name of a later call of another one."""
    for name in names:
        layer, _, number = name.rpartition(":")
        if layer in names and number.isdecimal():
            raise ValueError(
                f"layers {layer!r} and {name!r}: the second has the name of a later call of the "
                "first; exclude= one of them, or merge_calls=True"
            )


def _leave_out_indices(attachment: Attachment) -> None:
    """Say which inputs are indices, and so not captured. Raises NotCapturable if all are."""
    bridge, places = attachment.bridge, attachment.places
    kept, indices = list[str](), list[str]()
    for name, layer in attachment.chosen:
        own = bridge.places(layer, attachment.method)
        kept += own
        indices += [bridge.point_name(name, place) for place in places if place not in own]
    if indices and not kept:
        raise NotCapturable(
            f"{', '.join(indices)}: the inputs of embeddings are indices, which have no neurons"
        )
    if indices:
        warn_of_indices(indices)


def _check_thresholds(attachment: Attachment) -> None:
    """Raise ValueError if there is one threshold per neuron, but not for those of a layer."""
    threshold, bridge = attachment.options.threshold, attachment.bridge
    if not isinstance(threshold, tuple) or attachment.options.neuron_axis is not None:
        return
    for name, layer in attachment.chosen:
        for place in bridge.places(layer, attachment.method):
            neurons = bridge.neurons(layer, place)
            if neurons not in (None, len(threshold)):
                raise ValueError(
                    f"{bridge.point_name(name, place)}: threshold must be one number or one per "
                    f"neuron ({neurons}), got {len(threshold)}"
                )


def check_store_layers(storage_path: Any) -> None:
    """Raise ValueError if a store has other layers than those that are captured now."""
    if hasattr(storage_path, "session"):
        storage_path.session.check_all_claimed()


def release_names(points: Iterable[CapturePoint]) -> None:
    """Release the names of points that will capture nothing."""
    for point in points:
        point.intake.sink.release_name()
