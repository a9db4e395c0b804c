"""Report: the table of measures, per layer and for the network."""

import dataclasses
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._html import html_bar, html_summary, html_table
from tensorstate_gpu.information.estimated_measure import Quality
from tensorstate_gpu.reporting.label_table import LabelTable
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.layer_report import HEADINGS, LayerReport
from tensorstate_gpu.reporting.page.write import write_page
from tensorstate_gpu.reporting.text import (
    format_part,
    format_percent,
    format_range,
    listed_names,
    printable_name,
    shared_lines,
    text_list,
    text_table,
    with_noun,
)
from tensorstate_gpu.reporting.tidy_tables import (
    as_arrow,
    as_pandas,
    label_columns,
    label_pair_columns,
    layer_columns,
    neuron_columns,
    repetition_columns,
)
from tensorstate_gpu.reporting.training_table import Log

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

    As tables with a row for each layer, neuron, label, two labels, or number of repetitions:
    to_pandas(), neurons_to_pandas(), classes_to_pandas(), divergences_to_pandas() and
    repetitions_to_pandas(); and the same to_arrow().

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate_gpu as ts
    >>> layer = ts.CapturePoint("layer")
    >>> layer.declare(neurons=2)
    >>> layer.append(np.array([[0], [1], [2], [3]] * 20, np.uint8), instances=80)
    >>> report = ts.Run([layer]).report(accuracy=0.9)
    >>> report.network_efficiency, report["layer"].entropy, report.quality
    (1.0, 2.0, 'good')
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

    def __getitem__(self, name: str | int) -> LayerReport:
        """Return the measures of one layer, by its name or its place.

        Raises KeyError or IndexError if it is not in the table.
        """
        layers = {layer.layer: layer for layer in self.layers}
        others = {layer.layer: layer.other_names for layer in self.layers}
        return layers[find_name(others, name, of="report")]

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, ready for JSON: no profiles, divergences or origin."""
        plain = tuple(dataclasses.replace(table, divergences=None) for table in self.by_label)
        bare = dataclasses.replace(self, profiles=(), by_label=plain, origin={})
        fields = dataclasses.asdict(bare)
        del fields["profiles"], fields["origin"]
        for table in fields["by_label"]:
            del table["divergences"]
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

    def divergences_to_pandas(self) -> "pandas.DataFrame":
        """Return how much the states of each two labels of a layer differ, where it is known.

        Columns as of reporting.divergences_to_pandas(), and ``layer``.
        """
        return as_pandas(label_pair_columns(self.by_label))

    def divergences_to_arrow(self) -> "pyarrow.Table":
        """Return the table of divergences_to_pandas()."""
        return as_arrow(label_pair_columns(self.by_label))

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
        training: Log | None = None,
        overwrite: bool = False,
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
        training : mapping of step to scalars, optional
            For a chart of the layers' efficiency while the network learned; see `plot_training`.
        overwrite : bool
            Whether a file of this name is replaced, as where a cell of a notebook runs again.

        Raises
        ------
        ImportError
            If jinja2, altair or vl-convert-python is not installed.
        TypeError
            If ``title`` is no str, ``origin`` no mapping, or ``training`` none of steps to scalars.
        ValueError
            If the file exists, without ``overwrite=True``.
        OSError
            If it cannot be written. Nothing new is left then.
        """
        if not isinstance(title, str):
            raise TypeError(f"title must be a str, got {type(title).__name__}")
        if not isinstance(origin, Mapping | None):
            kind = type(origin).__name__
            raise TypeError(f"origin must be a mapping of names to texts, got {kind}")
        told = {**self.origin, **(origin or {})}
        write_page(self, path, title, told, training, overwrite=overwrite)

    def summary(self) -> list[tuple[str, str]]:
        """Return the lines below the table, as pairs (label, value).

        They name layers that are always in one state or at their ceiling, those that ran only in
        some passes of the model, whose inputs are a part of it, and the other names of layers.
        """
        lines = [("network efficiency", self._marked(self.network_efficiency, self.network_range))]
        if self.varying_efficiency is not None:
            lines.append(("without constant layers", format_percent(self.varying_efficiency)))
        if self.accuracy is not None and self.aiq is not None:
            lines.append(("accuracy", format_part(self.accuracy)))
            aiq = self._marked(self.aiq, self.aiq_range)
            lines.append((f"aIQ (beta {self.beta:g})", aiq))
        lines += shared_lines(
            [(layer.layer, told) for layer in self.layers for told in self._about(layer)]
        )
        if at_ceiling := [layer.layer for layer in self.layers if layer.is_at_ceiling]:
            names = listed_names(at_ceiling)
            lines.append(("at the ceiling", f"{names}: more states would show a higher entropy"))
        if self.ranks is not None:
            lines.append(("states of", with_noun(self.ranks, "rank")))
        if self.missing:
            lines.append(("nothing captured of", listed_names(self.missing)))
        return [*lines, *self.notes]

    def _about(self, layer: LayerReport) -> Iterator[str]:
        """Yield what is to be known of a layer besides its measures."""
        if reason := layer.why_constant():
            yield reason
        if layer.layer in self.out_of_step:
            yield self._why_out_of_step(layer)
        elif layer.passes != layer.model_passes:
            failed = f", {layer.failed_passes:,} failed" if layer.failed_passes else ""
            yield f"{layer.passes:,} of {layer.model_passes:,} passes{failed}"
        if layer.other_names:
            yield f"also {', '.join(map(printable_name, layer.other_names))}"

    def _why_out_of_step(self, layer: LayerReport) -> str:
        others = {each.inputs for each in self.layers if each.layer not in self.out_of_step}
        told = ", ".join(f"{inputs:,}" for inputs in sorted(filter(None, others)))
        left_out = "" if self.includes_out_of_step else ", and is not in the network efficiency"
        seen = with_noun(layer.inputs or 0, "input")
        return f"out of step: it has seen {seen}, others {told}{left_out}"

    def _marked(self, value: float, limits: tuple[float, float] | None) -> str:
        """Return a measure of the network with what is known of it for unlimited inputs."""
        shown, is_bounds = format_percent(value), self.quality == "bounds only"
        if limits is None:
            return f"{shown} (bounds only)" if is_bounds else shown
        word = "bounds only" if is_bounds else "95 % range"
        return f"{shown} ({word}: {format_range(*limits)})"

    def to_text(self, width: int | None = None) -> str:
        """Return what print() shows. Tables that are wider than ``width`` columns are folded.

        Raises TypeError or ValueError for a width that is no positive integer.
        """
        width = None if width is None else positive_integer(width, "width")
        table = text_table([HEADINGS, *(layer.cells() for layer in self.layers)], width)
        by_label = [each.to_text(width) for each in self.by_label]
        return "\n\n".join([table, text_list(self.summary()), *by_label])

    def __str__(self) -> str:
        return self.to_text()

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
