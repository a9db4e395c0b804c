"""RankRun: the layers of a run, with the states of all ranks of a job."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tensorstate_gpu import information
from tensorstate_gpu._arguments import flag
from tensorstate_gpu._html import html_table
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._listed_names import ListedNames
from tensorstate_gpu._process.progress import ProgressCallback, complete
from tensorstate_gpu._states.grouped_counts import RankGroups
from tensorstate_gpu._states.state_counts import RankCounts
from tensorstate_gpu.errors import InputsUnknown, LabelsMissing, NothingCaptured, RowsNotKept
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import Measure
from tensorstate_gpu.information.estimators import Estimator
from tensorstate_gpu.reporting.label_table import LabelTable
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.network_report import report
from tensorstate_gpu.reporting.report_table import Report
from tensorstate_gpu.reporting.text import with_noun


@dataclass(frozen=True, slots=True)
class RankFacts:
    """What ranks know of a layer besides its states; of numbers, the sums over ranks.

    ``inputs``: None if a rank does not know it; ranks that share rows count once.
    """

    name: str
    other_names: tuple[str, ...]
    axis: int | None
    axis_origin: str | None
    nan_share: float
    passes: tuple[int, int] | None
    failed_passes: int
    inputs: int | None

    @classmethod
    def together(cls, each: Sequence["RankFacts"]) -> "RankFacts":
        """Return what all ranks know, from what each does. They are of one layer."""
        captured = [facts for facts in each if facts.axis is not None] or each
        passes = [facts.passes for facts in captured if facts.passes is not None]
        inputs = [facts.inputs for facts in captured if facts.inputs is not None]
        return cls(
            name=each[0].name,
            other_names=each[0].other_names,
            axis=captured[0].axis,
            axis_origin=captured[0].axis_origin,
            nan_share=max(facts.nan_share for facts in captured),
            passes=_added(passes) if len(passes) == len(captured) else None,
            failed_passes=sum(facts.failed_passes for facts in each),
            inputs=sum(inputs) if len(inputs) == len(captured) else None,
        )


def _added(passes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(ran for ran, _ in passes), sum(of_model for _, of_model in passes)


@dataclass(frozen=True, slots=True)
class RankLayer:
    """The states that a layer had on all ranks. Every method works on one rank alone.

    ``facts``: what all ranks together know of it. Its names are those of its capture points.
    """

    facts: RankFacts
    _counts: RankCounts | None
    _by_label: dict[Label, RankCounts] | None
    _groups: RankGroups | None
    _groups_by: dict[Label, RankGroups] | None

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def other_names(self) -> tuple[str, ...]:
        return self.facts.other_names

    @property
    def axis(self) -> int | None:
        """The axis of the neurons; None if no rank knows it."""
        return self.facts.axis

    @property
    def axis_origin(self) -> str | None:
        """Where the axis is known from; see CapturePoint."""
        return self.facts.axis_origin

    @property
    def nan_share(self) -> float:
        """The share of NaN in the first batch, of the rank that has most."""
        return self.facts.nan_share

    @property
    def passes(self) -> tuple[int, int] | None:
        """In how many passes of all ranks the layer ran, and how many there were, if known."""
        return self.facts.passes

    @property
    def failed_passes(self) -> int:
        """How many passes have failed, perhaps before they came to the layer."""
        return self.facts.failed_passes

    @property
    def instance_count(self) -> int:
        """How many inputs all ranks have seen. Raises InputsUnknown if one does not know it."""
        if self.facts.inputs is None:
            raise InputsUnknown(f"{self.name}: on some ranks, the number of inputs is not known")
        return self.facts.inputs

    @property
    def neurons(self) -> int | None:
        """Number of neurons; None if no rank has captured the layer."""
        return None if self._counts is None else self._counts.neurons

    @property
    def state_count(self) -> int:
        """Number of states that all ranks have captured, including repetitions."""
        return 0 if self._counts is None else self._counts.total

    def histogram(self) -> RankCounts:
        """Return the counts of all ranks. Raises NothingCaptured if there are none."""
        if self._counts is None:
            raise NothingCaptured(f"{self.name}: nothing captured, on no rank")
        return self._counts

    def counts_by(self) -> dict[Label, RankCounts]:
        """Return the counts of all ranks by label, sorted by label.

        Labels of which there are only inputs without rows are left out. Raises LabelsMissing unless
        all inputs of all ranks had labels.
        """
        self.histogram()
        if self._by_label is None:
            raise LabelsMissing(f"{self.name}: on some ranks, inputs were captured without a label")
        return dict(self._by_label)

    def grouped(self) -> RankGroups:
        """Return the counts of all ranks by group of inputs, which show the errors of measures.

        Raises RowsNotKept unless all ranks have them: keep="states", or keep="counts" with groups=.
        """
        self.histogram()
        if self._groups is None:
            raise RowsNotKept(f"{self.name}: not all ranks have counts by group: groups=32")
        return self._groups

    def grouped_by(self) -> dict[Label, RankGroups]:
        """Return the counts of all ranks by group of inputs, for each label, sorted by label.

        Raises as counts_by() and grouped() do.
        """
        self.counts_by()
        self.grouped()
        if not self._groups_by:
            raise RowsNotKept(f"{self.name}: a rank had no memory for counts by label and group")
        return dict(self._groups_by)

    def counted(self, *, progress: ProgressCallback | None = None) -> RankCounts:
        """Return the counts of all ranks, as a report reads them."""
        complete(progress, self.state_count)  # they were counted by sync()
        return self.histogram()

    def counted_groups(self, *, progress: ProgressCallback | None = None) -> RankGroups:
        """Return the counts of all ranks by group, as a report reads them; see grouped()."""
        complete(progress, self.state_count)
        return self.grouped()

    def estimate(self, measure: Measure = "entropy") -> Estimate:
        """Return the entropy or efficiency of the source, with its error; information.estimate.

        Raises as grouped() does.
        """
        return self.grouped().estimate(measure)

    def entropy(self, alpha: float = 1, estimator: Estimator = "plugin") -> float:
        """Return the Rényi entropy of order alpha of the states of all ranks, in bits."""
        return self.histogram().entropy(alpha, estimator)

    def efficiency(
        self, alpha1: float = 1, alpha2: float | None = None, estimator: Estimator = "plugin"
    ) -> float:
        """Return entropy(alpha1) / entropy(alpha2); None stands for the number of neurons."""
        return self.histogram().efficiency(alpha1, alpha2, estimator)


class RankRun(ListedNames, Mapping[str, RankLayer]):
    """The layers of a run with the states of all ranks, in the model's order; see Run.sync().

    ``run["relu_post_states"]``, ``run["relu"]`` and ``run[0]`` are layers, as those of a Run are.
    ``ranks``: how many there are.
    """

    __module__ = "tensorstate_gpu"

    __eq__, __hash__ = object.__eq__, object.__hash__
    _listed = "efficiency_layers get items keys network_efficiency ranks report values"

    def __init__(self, layers: Iterable[RankLayer], ranks: int) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self.ranks = ranks

    @property
    def efficiency_layers(self) -> list[RankLayer]:
        """The layers, in the model's order."""
        return list(self._layers.values())

    def __getitem__(self, name: str | int) -> RankLayer:
        others = {layer.name: layer.other_names for layer in self._layers.values()}
        return self._layers[find_name(others, name, of="run")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""
        return {"ranks": f"{self.ranks:,}"}

    def network_efficiency(self) -> float:
        """Return the geometric mean of the layers' efficiencies."""
        return information.network_efficiency(self)

    def report(
        self,
        accuracy: float | None = None,
        beta: float = 2,
        *,
        by_label: bool = False,
        include_out_of_step: bool = False,
    ) -> Report:
        """Return the table of measures of all ranks, on one rank alone; see tensorstate_gpu.report.

        Its profiles do not know which neurons fire together.
        """
        by_label = flag(by_label, "by_label")
        whole = report(self, accuracy, beta, include_out_of_step=include_out_of_step)
        tables = (
            LabelTable.of_ranks(layer)
            for layer in self.values()
            if by_label and layer.name not in whole.missing
        )
        return replace(whole, ranks=self.ranks, by_label=tuple(tables))

    def __repr__(self) -> str:
        states = sum(layer.state_count for layer in self._layers.values())
        return (
            f"RankRun({with_noun(len(self), 'layer')}, {with_noun(states, 'state')}, "
            f"{with_noun(self.ranks, 'rank')})"
        )

    def _repr_html_(self) -> str:
        try:
            return self.report()._repr_html_()
        except NothingCaptured:
            return html_table(("layer",), [(name,) for name in self])
