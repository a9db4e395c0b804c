"""LabelTable: the measures of one layer by label, and how much its states tell about the label."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from tensorstate_gpu import information
from tensorstate_gpu._html import html_summary, html_table
from tensorstate_gpu._process.progress import OnDone, ProgressCallback, so_far
from tensorstate_gpu._states.grouped_counts import RankGroups
from tensorstate_gpu._states.state_counts import RankCounts, StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu.errors import LabelsMissing, RowsNotKept
from tensorstate_gpu.information import ClassDivergences, Estimate
from tensorstate_gpu.information.class_information import Pairs, information_of
from tensorstate_gpu.information.estimated_measure import ROUGH, Quality
from tensorstate_gpu.reporting.label_divergences import divergences_of_layers
from tensorstate_gpu.reporting.label_measures import (
    ByGroup,
    Label,
    measures_of,
    measures_of_groups,
    read,
    shown_label,
)
from tensorstate_gpu.reporting.layer_profile import Counts
from tensorstate_gpu.reporting.layer_report import HEADINGS, LayerReport, Sized, reading_counts
from tensorstate_gpu.reporting.text import printable_name, text_table

_SHOWN = (0, *range(3, len(HEADINGS)))  # of the columns: not the axis, nor the neurons
_NAMES = ("states", "distinct", "entropy", "efficiency", "ceiling", "coverage", "quality")
_NAMES_OF_ESTIMATE = ("estimate", "standard_error", "lower", "upper")

LocalCounts = StateCounts | StoredCounts  # not those of all ranks
CountsT = TypeVar("CountsT")


class LabelledLayer(Sized, Protocol):
    """A capture point or a stored layer."""

    @property
    def name(self) -> str: ...
    def counted_by(
        self, *, progress: ProgressCallback | None = None
    ) -> Mapping[Label, LocalCounts]: ...
    def counted_groups_by(
        self, *, progress: ProgressCallback | None = None
    ) -> Mapping[Label, ByGroup]: ...


class LayerOfRanks(Protocol):
    """A layer with the states of all ranks."""

    @property
    def name(self) -> str: ...
    def histogram(self) -> RankCounts: ...
    def grouped(self) -> RankGroups: ...
    def counts_by(self) -> Mapping[Label | None, RankCounts]: ...
    def grouped_by(self) -> Mapping[Label | None, RankGroups]: ...


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class LabelTable:
    """The measures of one layer by label.

    ``information``: the bits that a state tells about its label, by the estimator of Chao, Wang and
    Jost. It is from ``lower`` to ``upper`` with 95 % confidence; ``quality`` says whether this is
    an interval. Both are None, and the quality is at most "rough", where counts are not kept by
    group. ``divergences``: how much the states of each two labels differ, if that was little to
    compute or asked for; see `information.class_divergences`. ``not_compared``: why there is no
    such comparison. ``missing``: why there are no measures.
    """

    __module__ = "tensorstate_gpu.reporting"

    layer: str
    labels: tuple[Label, ...] = ()
    measures: tuple[LayerReport, ...] = ()
    information: float | None = None
    lower: float | None = None
    upper: float | None = None
    quality: Quality = "bounds only"
    missing: str | None = None
    divergences: ClassDivergences | None = dataclasses.field(default=None, compare=False)
    not_compared: str | None = dataclasses.field(default=None, compare=False)

    @property
    def label_entropy(self) -> float:
        """The entropy of the labels of this sample's rows, in bits; 0 without labels.

        No state can tell more of its label, but for the error of a sample: ``upper`` has it, too.
        """
        return information.entropy([each.states for each in self.measures] or [1])

    @classmethod
    def of_layer(cls, layer: LabelledLayer, on_measured: OnDone | None = None) -> "LabelTable":
        """Measure the states of each label that was given during capture.

        ``on_measured`` is called with the states that were measured since the last call.
        """
        with reading_counts(layer, on_measured) as on_read:
            try:
                return cls._read_by_label(layer, on_read)
            except LabelsMissing as error:
                return cls._without(layer.name, error)

    @classmethod
    def _read_by_label(cls, layer: LabelledLayer, on_read: OnDone | None) -> "LabelTable":
        try:
            groups = layer.counted_groups_by(progress=so_far(on_read))
        except RowsNotKept:
            counts = layer.counted_by(progress=so_far(on_read))
            return cls.of_counts(layer.name, counts, on_read)
        return cls.of_groups(layer.name, groups, on_read)

    @classmethod
    def of_ranks(cls, layer: LayerOfRanks) -> "LabelTable":
        """Measure what all ranks have of each label. No rank knows all states."""
        try:
            found = _labelled(layer.counts_by())
        except LabelsMissing as error:
            return cls._without(layer.name, error)
        try:
            by_label, groups = _labelled(layer.grouped_by()), layer.grouped()
        except RowsNotKept:
            totals = np.array([counts.total for counts in found.values()])
            pairs = Pairs(found.values())
            told = information_of(totals, layer.histogram(), pairs, "chao-wang-jost")
            return cls._measured(layer.name, found, told)
        measures = [
            LayerReport.of(shown_label(label), found[label], grouped.estimate("efficiency"))
            for label, grouped in by_label.items()
        ]
        return cls._estimated(layer.name, by_label, measures, groups.estimate_information(by_label))

    @classmethod
    def _without(cls, name: str, error: LabelsMissing) -> "LabelTable":
        return cls(name, missing=str(error).removeprefix(f"{name}: "))

    @classmethod
    def of_groups(
        cls, name: str, by_label: Mapping[Label, ByGroup], on_read: OnDone | None = None
    ) -> "LabelTable":
        """Measure the counts of each label, by group."""
        measures = measures_of_groups(by_label, on_read)
        found = information.estimate_mutual_information(by_label)
        return cls._estimated(name, by_label, measures, found)

    @classmethod
    def _estimated(
        cls, name: str, labels: Iterable[Label], measures: Iterable[LayerReport], found: Estimate
    ) -> "LabelTable":
        limits = found.lower, found.upper
        return cls(name, tuple(labels), tuple(measures), found.value, *limits, found.quality)

    @classmethod
    def of_counts(
        cls, name: str, by_label: Mapping[Label, LocalCounts], on_read: OnDone | None = None
    ) -> "LabelTable":
        """Measure the counts of each label; nothing tells how their rows depend on each other."""
        read((), by_label.values(), on_read)
        return cls._measured(name, by_label, information.mutual_information({**by_label}))

    @classmethod
    def _measured(
        cls,
        name: str,
        by_label: Mapping[Label, Counts],
        told: float,
    ) -> "LabelTable":
        measures = measures_of(by_label)
        covered = min(each.coverage for each in measures) >= ROUGH
        quality: Quality = "rough" if covered else "bounds only"
        table = cls(name, tuple(by_label), measures, quality=quality)
        # Corrected entropies of labels are above that of the sample, which is shown beside it.
        return dataclasses.replace(table, information=min(told, table.label_entropy))

    def as_list(self) -> list[dict[str, object]] | None:
        """Return the measures of each label, ready for JSON; None if there are none."""
        if self.missing is not None:
            return None
        names = (*_NAMES, *_NAMES_OF_ESTIMATE)
        return [
            {"label": label, **{name: getattr(each, name) for name in names}}
            for label, each in zip(self.labels, self.measures, strict=True)
        ]

    def summary(self) -> list[tuple[str, str]]:
        """Return the lines below the table, as pairs (label, value)."""
        if self.information is None:
            return []
        limits = ""
        if self.lower is not None and self.upper is not None:
            word = "bounds only" if self.quality == "bounds only" else "95 % range"
            limits = f" ({word}: {self.lower:.3f} - {self.upper:.3f} bits)"
        bits = f"{self.information:.3f} of {self.label_entropy:.3f} bits{limits}"
        told = [("a state tells of its label", bits)]
        if self.not_compared is not None:
            told.append(("labels are not compared", self.not_compared))
        return told

    def cells(self) -> list[tuple[str, ...]]:
        """Return the headings, and a row for each label."""
        headings = ("label", *HEADINGS[1:])
        rows = (headings, *(each.cells() for each in self.measures))
        return [tuple(row[place] for place in _SHOWN) for row in rows]

    def to_text(self, width: int | None = None) -> str:
        """Return what print() shows. A table that is wider than ``width`` columns is folded."""
        name = printable_name(self.layer)
        if self.missing is not None:
            return f"{name}: {self.missing}"
        below = [f"{label}  {value}" for label, value in self.summary()]
        return "\n".join([f"{name}, by label", text_table(self.cells(), width), "", *below])

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        headings, *rows = self.cells()
        title = html_summary([(self.layer, self.missing or "by label")])
        return title + html_table(headings, rows) + html_summary(self.summary())


def with_divergences(
    tables: Sequence[LabelTable], layers: Sequence[LabelledLayer], *, always: bool = False
) -> tuple[LabelTable, ...]:
    """Return tables with how much the states of each two labels of their layers differ, or why not.

    Unless ``always``, only where that is little to compute.
    """
    numbers = [len(table.labels) for table in tables]
    found = divergences_of_layers(layers, numbers, always=always)
    return tuple(
        dataclasses.replace(table, not_compared=each)
        if isinstance(each, str)
        else dataclasses.replace(table, divergences=each)
        for table, each in zip(tables, found, strict=True)
    )


def _labelled(by_label: Mapping[Label | None, CountsT]) -> dict[Label, CountsT]:
    return {label: counts for label, counts in by_label.items() if label is not None}
