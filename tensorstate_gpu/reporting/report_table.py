"""Report: the table of measures, per layer and for the network."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Protocol

from tensorstate_gpu import information
from tensorstate_gpu._arguments import real
from tensorstate_gpu._states.bits import popcount
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.errors import NoCapturePoints
from tensorstate_gpu.information.efficiencies import measure_layers
from tensorstate_gpu.reporting.html import html_summary, html_table
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.text import format_percent, printable_name, text_table

HEADINGS = ("layer", "axis", "neurons", "states", "distinct", "entropy", "efficiency", "ceiling")


class Layer(Protocol):
    """What the table says of a layer besides its measures; capture points and stored layers."""

    @property
    def name(self) -> str: ...
    @property
    def other_names(self) -> tuple[str, ...]: ...
    @property
    def axis(self) -> int | None: ...
    @property
    def axis_origin(self) -> str | None: ...
    @property
    def passes(self) -> tuple[int, int] | None: ...
    @property
    def nan_share(self) -> float: ...


@dataclasses.dataclass(frozen=True, slots=True)
class LayerReport:
    """Measures of one layer: ``entropy`` in bits, ``efficiency`` and ``ceiling`` from 0 to 1.

    ``ceiling`` is the highest efficiency that this number of states could show: min(1, log2(states)
    / neurons). ``axis`` is the axis of the neurons, and ``axis_origin`` where it is known from:
    "given", "layer", "flow", "rule", "guess", or None where it was declared. ``passes`` and
    ``model_passes``: in how many passes of the model the layer ran, and how many there were; None
    if that is not known. ``fires`` is false if no neuron fires in any state; ``nan`` is then the
    share of NaN in the first batch, from 0 to 1. ``always_fires``: whether all neurons fire in all
    states. ``other_names``: those of a layer that is registered under several.
    """

    __module__ = "tensorstate_gpu.reporting"

    layer: str
    axis: int | None
    neurons: int
    states: int
    distinct: int
    entropy: float
    efficiency: float
    ceiling: float
    axis_origin: str | None = None
    passes: int | None = None
    model_passes: int | None = None
    fires: bool = True
    nan: float = 0.0
    other_names: tuple[str, ...] = ()
    always_fires: bool = False

    @classmethod
    def of(cls, name: str, counts: StateCounts) -> "LayerReport":
        """Return the measures of a histogram; nothing else is known of it."""
        return cls(
            name,
            None,
            counts.neurons,
            counts.total,
            len(counts),
            counts.entropy(),
            counts.efficiency(),
            information.ceiling(counts.total, counts.neurons),
            fires=bool(counts.packed.any()),
            always_fires=_always_fires(counts),
        )

    @classmethod
    def of_layer(cls, layer: Layer, counts: StateCounts) -> "LayerReport":
        """Return the measures of a capture point or a stored layer with this histogram."""
        ran, passes = layer.passes or (None, None)
        measured = cls.of(layer.name, counts)
        return dataclasses.replace(
            measured,
            axis=layer.axis,
            axis_origin=layer.axis_origin,
            passes=ran,
            model_passes=passes,
            nan=0.0 if measured.fires else layer.nan_share,
            other_names=layer.other_names,
        )

    def why_constant(self) -> str:
        """Return why all rows have the same state, so that the efficiency is 0; else nothing.

        NaN are told apart from what does not fire for another reason.
        """
        if self.always_fires:
            return "all neurons always fire: exclude= it, or choose a threshold="
        if self.fires:
            return "is always in the same state" if self.distinct == 1 else ""
        nan = f": {format_percent(self.nan)} of its first batch are NaN" if self.nan else ""
        return f"never fires{nan}"

    def cells(self) -> tuple[str, ...]:
        return (
            self.layer,
            "-" if self.axis is None else f"{self.axis} {self.axis_origin or ''}".rstrip(),
            f"{self.neurons:,}",
            f"{self.states:,}",
            f"{self.distinct:,}",
            f"{self.entropy:.3f} bits",
            format_percent(self.efficiency),
            format_percent(self.ceiling),
        )


def _always_fires(counts: StateCounts) -> bool:
    return len(counts) == 1 and int(popcount(counts.packed)[0]) == counts.neurons


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Report:
    """The table of measures of a network: as text in a terminal, as HTML in notebooks.

    ``varying_efficiency``: the network efficiency without layers that are always in one state, as
    softmax outputs are; one of them makes that of the network 0. None if there is no such layer, or
    no other one.
    ``missing``: names of the layers of which nothing was captured. The measures leave them out.
    """

    __module__ = "tensorstate_gpu.reporting"

    layers: tuple[LayerReport, ...]
    network_efficiency: float
    accuracy: float | None = None
    beta: float = 2
    aiq: float | None = None
    missing: tuple[str, ...] = ()
    varying_efficiency: float | None = None

    def __getitem__(self, name: str) -> LayerReport:
        """Return the measures of one layer. Raises KeyError if it is not in the table."""
        layers = {layer.layer: layer for layer in self.layers}
        others = {layer.layer: layer.other_names for layer in self.layers}
        return layers[find_name(others, name, of="report")]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, ready for JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> list[tuple[str, str]]:
        """Return the lines below the table, as pairs (label, value).

        They name layers that are always in one state, those that ran only in some passes of the
        model, whose inputs are a part of it, and the other names of layers.
        """
        lines = [("network efficiency", format_percent(self.network_efficiency))]
        if self.varying_efficiency is not None:
            lines.append(("without constant layers", format_percent(self.varying_efficiency)))
        if self.accuracy is not None and self.aiq is not None:
            lines.append(("accuracy", format_percent(self.accuracy)))
            lines.append((f"aIQ (beta {self.beta:g})", format_percent(self.aiq)))
        for layer in self.layers:
            if reason := layer.why_constant():
                lines.append((layer.layer, reason))
            if layer.passes != layer.model_passes:
                lines.append((layer.layer, f"{layer.passes:,} of {layer.model_passes:,} passes"))
            if layer.other_names:
                lines.append((layer.layer, f"also {', '.join(layer.other_names)}"))
        if self.missing:
            lines.append(("nothing captured of", ", ".join(map(printable_name, self.missing))))
        return lines

    def __str__(self) -> str:
        table = text_table([HEADINGS, *(layer.cells() for layer in self.layers)])
        summary = self.summary()
        width = max(len(label) for label, _ in summary)
        return "\n".join([table, "", *(f"{label:<{width}}  {value}" for label, value in summary)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [layer.cells() for layer in self.layers]
        return html_table(HEADINGS, rows) + html_summary(self.summary())


_ADVICE = (
    ": use run.report() after `with ts.capture(...) as run:`, or pass the model that "
    "build_efficiency_model() returned"
)


def report(model: Any, accuracy: float | None = None, beta: float = 2) -> Report:
    """Measure all capture points of a model, Run or Store.

    Layers of which nothing was captured are left out, and named in ``missing`` of the result.

    Parameters
    ----------
    model : any object with ``efficiency_layers``
    accuracy : float, optional
        The model's accuracy, from 0 to 1. If given, the report includes the aIQ.
    beta : float
        Weight of the accuracy in the aIQ.

    Raises
    ------
    TypeError, ValueError
        The model has no capture points or no captured states, or accuracy or beta is invalid.
    """
    points = getattr(model, "efficiency_layers", None)
    if not points:
        advice = _ADVICE if points is None else ""
        raise NoCapturePoints(f"{type(model).__name__} has no capture points to report{advice}")
    layers, missing = measure_layers(
        points,
        lambda point: LayerReport.of_layer(point, point.histogram()),
    )
    return summarise(layers, accuracy, beta, missing)


def summarise(
    layers: list[LayerReport], accuracy: float | None, beta: float, missing: Iterable[str] = ()
) -> Report:
    """Combine the measures of layers into those of the network."""
    efficiency = information.network_efficiency([layer.efficiency for layer in layers])
    beta = real(beta, "beta")
    if accuracy is not None:
        accuracy = real(accuracy, "accuracy")
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy must be from 0 to 1, got {accuracy}")
        if not 0 < beta < math.inf:
            raise ValueError(f"beta must be finite and greater than 0, got {beta}")
    aiq = None if accuracy is None else information.aIQ(efficiency, accuracy, beta)
    return Report(
        tuple(layers), efficiency, accuracy, beta, aiq, tuple(missing), _varying_efficiency(layers)
    )


def _varying_efficiency(layers: list[LayerReport]) -> float | None:
    varying = [layer.efficiency for layer in layers if layer.distinct > 1]
    if not varying or len(varying) == len(layers):
        return None
    return information.network_efficiency(varying)
