"""RankRun: the layers of a run, with the states of all ranks of a job."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tensorstate_gpu import information
from tensorstate_gpu._layers.counters import Label
from tensorstate_gpu._states.grouped_counts import RankGroups
from tensorstate_gpu._states.state_counts import RankCounts
from tensorstate_gpu.errors import LabelsMissing, NothingCaptured, RowsNotKept
from tensorstate_gpu.information.estimators import Estimator
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.text import with_noun


@dataclass(frozen=True, slots=True)
class RankLayer:
    """The states that a layer had on all ranks. Every method works on one rank alone.

    ``name`` and ``other_names`` are those of its capture points.
    """

    name: str
    other_names: tuple[str, ...]
    _counts: RankCounts | None
    _by_label: dict[Label, RankCounts] | None
    _groups: RankGroups | None

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

        Raises LabelsMissing unless all inputs of all ranks had labels.
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

    def entropy(self, alpha: float = 1, estimator: Estimator = "plugin") -> float:
        """Return the Rényi entropy of order alpha of the states of all ranks, in bits."""
        return self.histogram().entropy(alpha, estimator)

    def efficiency(
        self, alpha1: float = 1, alpha2: float | None = None, estimator: Estimator = "plugin"
    ) -> float:
        """Return entropy(alpha1) / entropy(alpha2); None stands for the number of neurons."""
        return self.histogram().efficiency(alpha1, alpha2, estimator)


class RankRun(Mapping[str, RankLayer]):
    """The layers of a run with the states of all ranks, in the model's order; see Run.sync().

    ``run["relu_post_states"]``, ``run["relu"]`` and ``run[0]`` are layers, as those of a Run are.
    """

    __module__ = "tensorstate_gpu"

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __init__(self, layers: Iterable[RankLayer]) -> None:
        self._layers = {layer.name: layer for layer in layers}

    @property
    def efficiency_layers(self) -> list[RankLayer]:
        """The layers, in the model's order."""
        return list(self._layers.values())

    def __getitem__(self, name: str | int) -> RankLayer:
        if isinstance(name, int):
            return self.efficiency_layers[name]
        others = {layer.name: layer.other_names for layer in self._layers.values()}
        return self._layers[find_name(others, name, of="run")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def network_efficiency(self) -> float:
        """Return the geometric mean of the layers' efficiencies."""
        return information.network_efficiency(self)

    def __repr__(self) -> str:
        states = sum(layer.state_count for layer in self._layers.values())
        return f"RankRun({with_noun(len(self), 'layer')}, {with_noun(states, 'state')})"
