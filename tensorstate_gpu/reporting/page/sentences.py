"""What a page says about a network and its layers, in plain words."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.layer_report import LayerReport
from tensorstate_gpu.reporting.text import format_part, format_percent, format_range, with_noun
from tensorstate_gpu.reporting.tidy_tables import HasMeasures


class Network(HasMeasures, Protocol):
    """What pages need of a Report, which imports this module."""

    @property
    def network_efficiency(self) -> float: ...
    @property
    def out_of_step(self) -> tuple[str, ...]: ...
    @property
    def includes_out_of_step(self) -> bool: ...
    def summary(self) -> list[tuple[str, str]]: ...


class Summary(NamedTuple):
    """The lines below the table, as pairs (label, value): measures of the network, and others."""

    measures: list[tuple[str, str]]
    others: list[tuple[str, str]]


def summary_of(report: Network) -> Summary:
    """Return the lines below the table of a report, in which the network's measures come first."""
    lines = report.summary()
    measures = [*itertools.takewhile(lambda line: line[0].startswith(_MEASURES), lines)]
    return Summary(measures, lines[len(measures) :])


_MEASURES = ("network efficiency", "without constant layers", "accuracy", "aIQ")


def about_network(report: Network) -> list[str]:
    """What the reader should know first."""
    efficiency = format_percent(report.network_efficiency)
    left_out = 0 if report.includes_out_of_step else len(report.out_of_step)
    sentences = [
        f"In this sample, the network uses {efficiency} of its capacity: the geometric mean of "
        f"{with_noun(len(report.layers) - left_out, 'layer')}."
    ]
    least = min(report.layers, key=lambda layer: layer.efficiency)
    if len(report.layers) > 1:
        share = format_percent(least.efficiency)
        sentences.append(f"Layer {_isolated(least.layer)} uses the least of its capacity, {share}.")
    if unknown := [layer.layer for layer in report.layers if layer.quality == "bounds only"]:
        sentences.append(
            f"The inputs were too few to measure what {_named(unknown)} can do: the numbers are "
            "those of this sample, and more inputs would raise them."
        )
    return sentences + _warnings(report)


def _warnings(report: Network) -> list[str]:
    """What in the panels of layers should not be overlooked."""
    sentences = []
    if guessed := [layer.layer for layer in report.layers if layer.axis_origin == "guess"]:
        sentences.append(
            f"Which axis counts the neurons is a guess for {_named(guessed)}; where it is wrong, "
            "so are the numbers. neuron_axis= says which does."
        )
    for kind, what in (("dead", "never fired"), ("always_on", "always fired")):
        shares = {each.layer: getattr(each, kind) / len(each.firing) for each in report.profiles}
        sentences += _unusual({name: s for name, s in shares.items() if s >= _UNUSUAL}, what)
    return sentences


_UNUSUAL = 0.1  # of a layer's neurons: a few that never fire are usual after a ReLU


def _unusual(shares: dict[str, float], what: str) -> list[str]:
    if not shares:
        return []
    most = max(shares, key=lambda name: shares[name])
    share = format_part(shares[most])
    if len(shares) == 1:
        return [f"{share} of the neurons of layer {_isolated(most)} {what}."]
    return [
        f"In {len(shares):,} layers, 10 % of the neurons or more {what}: in layer "
        f"{_isolated(most)}, {share} of them."
    ]


def _named(layers: Sequence[str]) -> str:
    # Never a name alone: that of a layer may be a number, as in nn.Sequential.
    if len(layers) == 1:
        return f"layer {_isolated(layers[0])}"
    if len(layers) == 2:
        return f"the layers {' and '.join(map(_isolated, layers))}"
    return f"{len(layers):,} layers"


def _isolated(name: str) -> str:
    """Return a name that keeps its direction to itself.

    Else a number behind Hebrew or Arabic letters would be shown before them.
    """
    is_from_right = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\u2068{name}\u2069" if is_from_right else name


def about_layer(layer: LayerReport, profile: LayerProfile | None) -> list[str]:
    """What the numbers of a layer say, and what to do."""
    sentences = [_efficiency(layer)]
    if reason := layer.why_constant():
        sentences.append(f"{_with_subject(reason)}.")
    elif layer.is_at_ceiling:
        sentences.append(f"{_too_few_states(layer)} Capture more inputs.")
    if profile is not None and not layer.why_constant():
        sentences += _neurons(profile)
    if layer.passes != layer.model_passes:
        sentences.append(
            f"It ran in {layer.passes:,} of {layer.model_passes:,} passes of the model, so its "
            "inputs are a part of the others'."
        )
    if layer.axis_origin == "guess":
        sentences.append(
            f"That axis {layer.axis} counts its neurons is a guess: neuron_axis= says which does."
        )
    return sentences


def _efficiency(layer: LayerReport) -> str:
    shown, name = format_percent(layer.efficiency), _isolated(layer.layer)
    if layer.lower is None or layer.upper is None:
        return f"Layer {name} uses {shown} of its capacity in this sample."
    limits = format_range(layer.lower, layer.upper)
    if layer.quality == "bounds only":
        return (
            f"Layer {name} shows {shown} of its capacity. With unlimited inputs it would be "
            f"somewhere in {limits}."
        )
    return (
        f"Layer {name} uses {shown} of its capacity; with unlimited inputs it would be in "
        f"{limits} (95 % confidence)."
    )


def _too_few_states(layer: LayerReport) -> str:
    """Why the efficiency is that of the number of states."""
    if layer.shows_most_of_states and layer.ceiling < 1:
        return (
            f"It is at its ceiling: {layer.states:,} states can show no more than "
            f"{format_percent(layer.ceiling)}."
        )
    return (
        f"The second half of its {layer.states:,} states still added {layer.slope:.1f} bits "
        f"to its entropy of {layer.entropy:.1f} bits."
    )


def _with_subject(reason: str) -> str:
    """Return a reason as a sentence: most begin with a verb."""
    return reason.replace("all", "All", 1) if reason.startswith("all ") else f"It {reason}"


def _neurons(profile: LayerProfile) -> list[str]:
    neurons = len(profile.firing)
    told = [(profile.dead, "never fired"), (profile.always_on, "always fired")]
    return [f"{number:,} of {neurons:,} neurons {what}." for number, what in told if number]
