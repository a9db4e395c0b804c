"""Report: the table of measures, per layer and for the network."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from tensorstate_gpu import information
from tensorstate_gpu._arguments import real
from tensorstate_gpu._html import html_bar, html_summary, html_table
from tensorstate_gpu.errors import NoCapturePoints
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.efficiencies import measure_layers
from tensorstate_gpu.information.estimated_measure import QUALITIES, Quality
from tensorstate_gpu.reporting.label_table import LabelTable
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.layer_report import (
    HEADINGS,
    LayerReport,
    Measured,
    measured_layer,
)
from tensorstate_gpu.reporting.page.write import write_page
from tensorstate_gpu.reporting.text import (
    format_percent,
    format_range,
    printable_name,
    text_table,
    with_noun,
)
from tensorstate_gpu.reporting.tidy_tables import (
    as_arrow,
    as_pandas,
    label_columns,
    layer_columns,
    neuron_columns,
    repetition_columns,
)

if TYPE_CHECKING:
    import pandas
    import pyarrow


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Report:
    """The table of measures of a network: as text in a terminal, as HTML in notebooks.

    ``varying_efficiency``: the network efficiency without layers that are always in one state, as
    softmax outputs are; one of them makes that of the network 0. None if there is no such layer, or
    no other one.
    ``missing``: names of the layers of which nothing was captured. The measures leave them out.
    ``quality``: the least of the layers'. ``network_range``, ``aiq_range``: where the network's
    efficiency and aIQ for unlimited inputs are with 95 % confidence; None unless there is an
    estimate of each layer, and all are of the same inputs.
    ``by_label``: a table by label for each layer, if they were asked for.
    ``out_of_step``: names of layers that have seen other inputs than most, as after a pass that has
    failed in its middle. They are in the table; whether the measures of the network are of them as
    well is ``includes_out_of_step``.
    ``profiles``: for each layer what figures show of its neurons and states.
    ``notes``: what is to be known of the stores that were read, as pairs (label, text).
    ``origin``: where the states are from: the class of the model, the options, the store and so on.
    ``ranks``: of how many ranks of a job the states are; None for those of one process.

    As tables with a row for each layer, neuron, label, or number of repetitions: to_pandas(),
    neurons_to_pandas(), classes_to_pandas() and repetitions_to_pandas(); and the same to_arrow().
    """

    __module__ = "tensorstate_gpu.reporting"

    layers: tuple[LayerReport, ...]
    network_efficiency: float
    accuracy: float | None = None
    beta: float = 2
    aiq: float | None = None
    missing: tuple[str, ...] = ()
    varying_efficiency: float | None = None
    quality: Quality = "bounds only"
    network_range: tuple[float, float] | None = None
    aiq_range: tuple[float, float] | None = None
    by_label: tuple[LabelTable, ...] = ()
    out_of_step: tuple[str, ...] = ()
    includes_out_of_step: bool = False
    profiles: tuple[LayerProfile, ...] = dataclasses.field(default=(), compare=False)
    notes: tuple[tuple[str, str], ...] = ()
    ranks: int | None = None
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def __getitem__(self, name: str) -> LayerReport:
        """Return the measures of one layer. Raises KeyError if it is not in the table."""
        layers = {layer.layer: layer for layer in self.layers}
        others = {layer.layer: layer.other_names for layer in self.layers}
        return layers[find_name(others, name, of="report")]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, ready for JSON, but for the profiles and the origin."""
        fields = dataclasses.asdict(dataclasses.replace(self, profiles=(), origin={}))
        del fields["profiles"], fields["origin"]
        return fields

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the measures, with a row for each layer. ``axis_origin`` and so on may be None."""
        return as_pandas(layer_columns(self.layers))

    def to_arrow(self) -> "pyarrow.Table":
        """Return the table of to_pandas()."""
        return as_arrow(layer_columns(self.layers))

    def neurons_to_pandas(self) -> "pandas.DataFrame":
        """Return in how many states each neuron fires, their share, and its entropy in bits."""
        return as_pandas(neuron_columns(self.profiles))

    def neurons_to_arrow(self) -> "pyarrow.Table":
        """Return the table of neurons_to_pandas()."""
        return as_arrow(neuron_columns(self.profiles))

    def classes_to_pandas(self) -> "pandas.DataFrame":
        """Return the measures of each label, if the report was made with by_label=True."""
        return as_pandas(label_columns(self.by_label))

    def classes_to_arrow(self) -> "pyarrow.Table":
        """Return the table of classes_to_pandas()."""
        return as_arrow(label_columns(self.by_label))

    def repetitions_to_pandas(self) -> "pandas.DataFrame":
        """Return how many distinct states occurred how often."""
        return as_pandas(repetition_columns(self.profiles))

    def repetitions_to_arrow(self) -> "pyarrow.Table":
        """Return the table of repetitions_to_pandas()."""
        return as_arrow(repetition_columns(self.profiles))

    def to_html(
        self,
        path: str | PathLike[str],
        *,
        title: str = "How the network uses its neurons",
        origin: Mapping[str, str] | None = None,
    ) -> None:
        """Write a page with sentences, charts and tables: one file that needs no network.

        Parameters
        ----------
        path : str or path
            A new file, such as "report.html".
        title : str
            Its heading.
        origin : mapping of str to str, optional
            What the page says about where the states are from, besides what the report knows (its
            ``origin``): the data, say.

        Raises
        ------
        ImportError
            If jinja2, altair or vl-convert-python is not installed.
        ValueError
            If the file exists: it is not overwritten.
        OSError
            If it cannot be written. Nothing is left then.
        """
        write_page(self, path, title, {**self.origin, **(origin or {})})

    def summary(self) -> list[tuple[str, str]]:
        """Return the lines below the table, as pairs (label, value).

        They name layers that are always in one state or at their ceiling, those that ran only in
        some passes of the model, whose inputs are a part of it, and the other names of layers.
        """
        lines = [("network efficiency", self._marked(self.network_efficiency, self.network_range))]
        if self.varying_efficiency is not None:
            lines.append(("without constant layers", format_percent(self.varying_efficiency)))
        if self.accuracy is not None and self.aiq is not None:
            lines.append(("accuracy", format_percent(self.accuracy)))
            aiq = self._marked(self.aiq, self.aiq_range)
            lines.append((f"aIQ (beta {self.beta:g})", aiq))
        for layer in self.layers:
            if reason := layer.why_constant():
                lines.append((layer.layer, reason))
            if layer.layer in self.out_of_step:
                lines.append((layer.layer, self._why_out_of_step(layer)))
            elif layer.passes != layer.model_passes:
                failed = f", {layer.failed_passes:,} failed" if layer.failed_passes else ""
                passes = f"{layer.passes:,} of {layer.model_passes:,} passes{failed}"
                lines.append((layer.layer, passes))
            if layer.other_names:
                lines.append((layer.layer, f"also {', '.join(layer.other_names)}"))
        if at_ceiling := [layer.layer for layer in self.layers if layer.is_at_ceiling]:
            names = ", ".join(map(printable_name, at_ceiling))
            lines.append(("at the ceiling", f"{names}: more states would show a higher entropy"))
        if self.ranks is not None:
            lines.append(("states of", with_noun(self.ranks, "rank")))
        if self.missing:
            lines.append(("nothing captured of", ", ".join(map(printable_name, self.missing))))
        return [*lines, *self.notes]

    def _why_out_of_step(self, layer: LayerReport) -> str:
        others = {each.inputs for each in self.layers if each.layer not in self.out_of_step}
        told = ", ".join(f"{inputs:,}" for inputs in sorted(filter(None, others)))
        left_out = "" if self.includes_out_of_step else ", and is not in the network efficiency"
        return f"out of step: it has seen {layer.inputs:,} inputs, others {told}{left_out}"

    def _marked(self, value: float, limits: tuple[float, float] | None) -> str:
        """Return a measure of the network with what is known of it for unlimited inputs."""
        if limits is None:
            return format_percent(value) + self.quality.startswith("bounds") * " (bounds only)"
        word = "bounds only" if self.quality == "bounds only" else "95 % range"
        return f"{format_percent(value)} ({word}: {format_range(*limits)})"

    def __str__(self) -> str:
        table = text_table([HEADINGS, *(layer.cells() for layer in self.layers)])
        summary = self.summary()
        width = max(len(label) for label, _ in summary)
        lines = [table, "", *(f"{label:<{width}}  {value}" for label, value in summary)]
        return "\n\n".join(["\n".join(lines), *map(str, self.by_label)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [layer.cells() for layer in self.layers]
        tables = [html_table(HEADINGS, rows, list(map(_bar, self.layers)))]
        tables.append(html_summary(self.summary()))
        return "".join([*tables, *(table._repr_html_() for table in self.by_label)])


def _bar(layer: LayerReport) -> str:
    lower, upper = layer.lower, layer.upper
    limits = None if lower is None or upper is None else (lower, upper)
    return html_bar(layer.efficiency, limits, dashed=layer.quality == "bounds only")


_ADVICE = (
    ": use run.report() after `with ts.capture(...) as run:`, or pass the model that "
    "build_efficiency_model() returned"
)


def report(
    model: Any,
    accuracy: float | None = None,
    beta: float = 2,
    *,
    by_label: bool = False,
    include_out_of_step: bool = False,
) -> Report:
    """Measure all capture points of a model or Run, or the layers of a Store or of several.

    Layers of which nothing was captured are left out, and named in ``missing`` of the result.

    Parameters
    ----------
    model : any object with ``efficiency_layers``
    accuracy : float, optional
        The model's accuracy, from 0 to 1. If given, the report includes the aIQ.
    beta : float
        Weight of the accuracy in the aIQ.
    by_label : bool
        Whether to add a table for each layer with its measures by label; see ``run.labels()``.
    include_out_of_step : bool
        Whether the measures of the network are also of layers that have seen other inputs than
        most, as after a pass that has failed in its middle. They are named in any case.

    Raises
    ------
    TypeError, ValueError
        The model has no capture points or no captured states, or accuracy or beta is invalid.
    """
    points = getattr(model, "efficiency_layers", None)
    if not points:
        advice = _ADVICE if points is None else ""
        raise NoCapturePoints(f"{type(model).__name__} has no capture points to report{advice}")
    measured, missing = measure_layers(points, measured_layer)
    whole = summarise(measured, accuracy, beta, missing, include_out_of_step)
    whole = dataclasses.replace(
        whole,
        notes=tuple(getattr(model, "report_notes", ())),
        origin=getattr(model, "report_origin", {"class of the model": type(model).__name__}),
    )
    if not by_label:
        return whole
    tables = tuple(LabelTable.of_layer(each) for each in points if each.name not in missing)
    return dataclasses.replace(whole, by_label=tables)


def summarise(
    measured: Sequence[Measured],
    accuracy: float | None,
    beta: float,
    missing: Iterable[str] = (),
    include_out_of_step: bool = False,
) -> Report:
    """Combine the measures of layers, and their estimates, into those of the network."""
    every = [each.report for each in measured]
    out_of_step = _out_of_step(every)
    counted = measured
    if not include_out_of_step:
        counted = [each for each in measured if each.report.layer not in out_of_step]
    layers = [each.report for each in counted]
    efficiency = information.network_efficiency([layer.efficiency for layer in layers])
    beta = real(beta, "beta")
    if accuracy is not None:
        accuracy = real(accuracy, "accuracy")
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy must be from 0 to 1, got {accuracy}")
        if not 0 < beta < math.inf:
            raise ValueError(f"beta must be finite and greater than 0, got {beta}")
    aiq = None if accuracy is None else information.aIQ(efficiency, accuracy, beta)
    network = _network_estimate([each.estimate for each in counted])
    quotient = None
    if network is not None and accuracy is not None:
        quotient = information.estimate_aIQ(network, accuracy, beta)
    return Report(
        tuple(every),
        efficiency,
        accuracy,
        beta,
        aiq,
        tuple(missing),
        _varying_efficiency(layers),
        max((layer.quality for layer in layers), key=QUALITIES.index),
        None if network is None else (network.lower, network.upper),
        None if quotient is None else (quotient.lower, quotient.upper),
        out_of_step=out_of_step,
        includes_out_of_step=include_out_of_step,
        profiles=tuple(each.profile for each in measured),
    )


def _out_of_step(layers: Sequence[LayerReport]) -> tuple[str, ...]:
    """Return the names of layers that have seen other inputs than most: than the fewest, if equal.

    Not those that run in some passes only, which has nothing to do with passes that fail.
    """
    always = [layer for layer in layers if layer.runs_always and layer.inputs]
    if not always:
        return ()
    seen = collections.Counter((layer.inputs or 0, layer.passes) for layer in always)
    most = min(always, key=lambda layer: (-seen[layer.inputs or 0, layer.passes], layer.inputs))
    return tuple(layer.layer for layer in always if not layer.is_in_step_with(most))


def _network_estimate(layers: Sequence[Estimate | None]) -> Estimate | None:
    """Return the estimated efficiency of the network, if all layers have one of the same inputs."""
    found = [layer for layer in layers if layer is not None]
    if len(found) < len(layers) or any(layer.sample != found[0].sample for layer in found):
        return None
    return information.estimate_network_efficiency(found)


def _varying_efficiency(layers: list[LayerReport]) -> float | None:
    varying = [layer.efficiency for layer in layers if layer.distinct > 1]
    if not varying or len(varying) == len(layers):
        return None
    return information.network_efficiency(varying)
