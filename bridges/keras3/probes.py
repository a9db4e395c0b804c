"""Keras 3: creates the capture points of layers, one for each call in the graphs of a model."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tensorstate_gpu._capturing.attachment import release_names
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._layers.capture_warnings import warn_of_guesses
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NotCapturable, SkippedLayersWarning
from tensorstate_gpu.reporting.layer_names import name_of_call

from .call_sites import Node, call_sites
from .functional import Probes
from .graph_axes import LOST, GraphAxes, given_to_nested
from .input_axes import has_other_axis_0, inputs_rule
from .layers import Probe
from .neuron_axes import (
    is_by_element,
    is_told_by_inputs,
    may_have_channels_first,
    neurons_rule_of,
    own_axis,
)
from .points import KerasPoint
from .positions import counts_positions
from .tensors import first_tensor, unsupported_reason


class Graphs:
    """A model, and what its graphs tell: which axes hold neurons, and which count its inputs."""

    def __init__(self, model: Any) -> None:
        given = given_to_nested(model)
        self.model = model
        self.neurons = GraphAxes(given, neurons_rule_of(model))
        self.inputs = GraphAxes(given, inputs_rule)


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A place to capture: ``before`` or ``after`` a layer. ``name``: of the first call's point."""

    path: str
    layer: Any
    place: str
    name: str


def new_probes(
    model: Any,
    wanted: Sequence[Wanted],
    options: CaptureOptions,
    *,
    inside: bool,
    may_be_none: bool = False,
) -> Probes:
    """Create the probes: layer id -> place -> probe.

    ``inside``: whether calls of a layer by another one, as of a cell, are captured too.
    ``may_be_none``: whether it is no error that nothing can be captured.
    """
    created: list[CapturePoint] = []
    probes: Probes = {}
    graphs = Graphs(model)
    try:
        for each in _with_neurons(model, wanted, inside, may_be_none):
            if each.name in (point.name for point in created):
                raise ValueError(f"two of the chosen layers are called {each.path!r}: rename one")
            _check_layer(each.path, each.layer)
            sites = [] if options.merge_calls else call_sites(model, each.layer, inside=inside)
            own = options.of_layer(each.path, each.layer)
            probe = _new_probe(graphs, each, own, sites, created)
            probes.setdefault(id(each.layer), {})[each.place] = probe
        guessed = [point.name for point in created if point.axis_origin == "guess"]
        if guessed:
            warn_of_guesses(guessed)
    except BaseException:
        release_names(created)
        raise
    return probes


def _with_neurons(
    model: Any, wanted: Sequence[Wanted], inside: bool, may_be_none: bool
) -> list[Wanted]:
    """Return the places of tensors that can be captured, as far as is known, and warn of others.

    Raises TypeError if none are left, as when such a layer is named.
    """
    reasons = {each: _why_not(model, each, inside) for each in wanted}
    kept = [each for each, reason in reasons.items() if reason is None]
    left_out = [f"{each.name} ({reason})" for each, reason in reasons.items() if reason]
    if left_out and not (kept or may_be_none):
        raise TypeError("; ".join(f"{each.name}: {reason}" for each, reason in reasons.items()))
    if left_out:
        warn_user(f"these are not captured: {', '.join(left_out)}", SkippedLayersWarning)
    return kept


def _why_not(model: Any, wanted: Wanted, inside: bool) -> str | None:
    """Return why no tensor at a place can be captured, or None if one can, or none is known."""
    sites = call_sites(model, wanted.layer, inside=inside) or [None]
    symbols = [each for at in sites for each in _symbolic_tensors(wanted.layer, wanted.place, at)]
    reasons = [unsupported_reason(symbol) for symbol in symbols if symbol is not None]
    return reasons[0] if reasons and all(reasons) else None


def points_of(probes: Probes) -> Iterator[KerasPoint]:
    """Yield the capture points of all probes, those of later calls after the first."""
    for places in probes.values():
        for probe in places.values():
            yield from (each.point for each in (probe, *probe.later))


def _check_layer(path: str, layer: Any) -> None:
    """Raise NotCapturable for a layer whose calls are inside jax.checkpoint."""
    mode = getattr(layer, "_remat_mode", None)
    if mode is not None and mode.mode is not None and keras.backend.backend() == "jax":
        raise NotCapturable(
            f"{path} was made in a keras.RematScope, where calls cannot be captured"
        )


def _new_probe(
    graphs: Graphs,
    wanted: Wanted,
    options: CaptureOptions,
    sites: Sequence[Node],
    created: list[CapturePoint],
) -> Probe:
    """Create the probe of a place, with those of later calls, and note the capture points."""
    probes: list[Probe] = []
    for number, site in enumerate(sites or [None], 1):
        symbols = _symbolic_tensors(wanted.layer, wanted.place, site)
        call_of = wanted.name if probes else None
        name = name_of_call(wanted.name, number)
        point = _new_point(graphs, name, call_of, wanted, symbols, options)
        if site is not None and site.operation is wanted.layer:
            point.has_other_axis_0 = has_other_axis_0(symbols, graphs.model, graphs.inputs)
        if probes:
            first = probes[0].point
            first.later_calls, point.first = (*first.later_calls, point), first
        created.append(point)
        probes.append(Probe(point))
        _check_symbols(probes[-1], symbols)
    of_code = [] if options.merge_calls else probes[0].point.points_of_store()
    created += of_code
    numbers = {site: number for number, site in enumerate(sites, 1)}
    return Probe(probes[0].point, (*probes[1:], *map(Probe, of_code)), numbers)


def _new_point(
    graphs: Graphs,
    name: str,
    call_of: str | None,
    wanted: Wanted,
    symbols: Sequence[Any],
    options: CaptureOptions,
) -> KerasPoint:
    """Create a capture point, with the axis of its layer unless the user gave one."""
    axis, origin = _axis_of(graphs, wanted, symbols)
    if options.neuron_axis is not None:
        origin = "given"
    elif axis is not None:
        options = dataclasses.replace(options, neuron_axis=axis)
    point = KerasPoint(name, options=options, call_of=call_of)
    point.intake.axis_origin = origin
    point.counts_positions = counts_positions(symbols, graphs.model, options.mask)
    return point


def _axis_of(graphs: Graphs, wanted: Wanted, symbols: Sequence[Any]) -> tuple[int | None, str]:
    """Return the axis at a layer's input or output, if anything tells, and where from."""
    own = own_axis(wanted.layer, wanted.place)
    if own is not None and not is_told_by_inputs(wanted.layer):
        return own, "layer"
    followed = graphs.neurons.of(symbols)
    agrees = own is not None and {own % len(each.shape) for each in symbols} <= {followed}
    if agrees and not is_by_element(wanted.layer):
        return own, "layer"  # which may be all that tells
    if isinstance(followed, int):
        return followed, "flow"
    if own is not None:
        return own, "layer"
    # Keras has features last, unless layers of the model say that channels come first.
    has_choice = not symbols or any(len(each.shape) > 2 for each in symbols)
    is_guess = has_choice and (followed is LOST or may_have_channels_first(graphs.model))
    return None, "guess" if is_guess else "rule"


def _check_symbols(probe: Probe, symbols: Sequence[Any]) -> None:
    """Raise TypeError or ValueError if no known call of a layer can be captured."""
    for number, symbol in enumerate(symbols, 1):
        try:
            probe.check(symbol)
        except (TypeError, ValueError):
            if number == len(symbols):
                raise
        else:
            return  # one is enough: other calls may belong to other models


def _symbolic_tensors(layer: Any, place: str, site: Node | None) -> list[Any]:
    """Return the symbolic inputs or outputs of a layer, for one call or each of those recorded."""
    ends = "input_tensors" if place == "before" else "output_tensors"
    nodes = [site] if site is not None and site.operation is layer else layer._inbound_nodes
    called = [getattr(node, ends) for node in nodes]
    if called:
        return [first_tensor(tensors) for tensors in called if tensors]
    shapes = list((layer._build_shapes_dict or {}).values())
    if any(shape is not None and len(shape) < 2 for shape in shapes):
        return []  # it was built by another layer, with its features alone, or with no axis
    try:
        shape = shapes[0] if place == "before" else layer.compute_output_shape(*shapes)
        return [keras.KerasTensor((None, *shape[1:]))]
    except Exception:  # some layers do not know their shape, or have more than one
        return []
