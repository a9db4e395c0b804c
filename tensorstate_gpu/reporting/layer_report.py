"""LayerReport: the measures of one layer, and how far to trust them."""

import dataclasses
import math
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from tensorstate_gpu import information
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.progress import OnDone, ProgressCallback, readings, so_far
from tensorstate_gpu._states.external_counter import may_outgrow_memory
from tensorstate_gpu._states.grouped_counts import GroupedCounts, RankGroups
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.errors import InputsUnknown, LabelsMissing, RowsNotKept
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimated_measure import Quality, quality_of
from tensorstate_gpu.reporting.layer_profile import Counts, LayerProfile, firing_counts
from tensorstate_gpu.reporting.positions import first_map
from tensorstate_gpu.reporting.text import (
    format_bits,
    format_part,
    format_percent,
    format_range,
    printable_name,
)

_READINGS = 4  # of counts in files, by all measures

HEADINGS = (
    *("layer", "axis", "neurons", "states", "distinct", "entropy", "efficiency", "ceiling"),
    *("coverage", "95 % range", "quality"),
)


class Sized(Protocol):
    """A layer of which it is known how many states there are, and of how many neurons."""

    @property
    def neurons(self) -> int | None: ...
    @property
    def state_count(self) -> int: ...


class Layer(Sized, Protocol):
    """A layer in the table: a capture point or a stored layer."""

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
    def failed_passes(self) -> int: ...
    @property
    def instance_count(self) -> int: ...
    @property
    def nan_share(self) -> float: ...
    def counted(self, *, progress: ProgressCallback | None = None) -> Counts: ...
    def counted_groups(
        self, *, progress: ProgressCallback | None = None
    ) -> GroupedCounts | StoredGroups | RankGroups: ...


@dataclasses.dataclass(frozen=True, slots=True)
class LayerReport:
    """Measures of one layer: ``entropy`` in bits, ``efficiency`` and ``ceiling`` from 0 to 1.

    ``ceiling`` is the highest efficiency that this number of states could show: min(1, log2(states)
    / neurons). ``axis`` is the axis of the neurons, and ``axis_origin`` where it is known from:
    "given", "layer", "flow", "rule", "guess", or None where it was declared. ``passes`` and
    ``model_passes``: in how many passes of the model the layer ran, and how many there were; None
    if that is not known. ``fires`` is false if no neuron fires in any state; ``nan`` is then the
    share of NaN in the first batch, from 0 to 1. ``always_fires``: whether all neurons fire in all
    states. ``other_names``: those of a layer that is registered under several. ``inputs``: how many
    inputs of the model it has seen, if that is known; ``failed_passes``: how many passes have
    failed, perhaps before they came to the layer.

    How far to trust these numbers: ``coverage``, from 0 to 1, and ``slope``, the bits of entropy
    that the second half of the rows has added. ``estimate`` is the efficiency that the layer would
    show of unlimited inputs, with its ``standard_error``; it is from ``lower`` to ``upper`` with 95
    % confidence. ``quality`` says whether this is an interval, which may be "good" or "rough", or
    "bounds only", which ``estimate`` may be outside of; see docs/statistics.md. All four are None,
    and the quality is at most "rough", where counts are not kept by group.
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
    coverage: float = 0.0
    quality: Quality = "bounds only"
    slope: float = 0.0
    estimate: float | None = None
    standard_error: float | None = None
    lower: float | None = None
    upper: float | None = None
    inputs: int | None = None
    failed_passes: int = 0

    @classmethod
    def of(cls, name: str, counts: Counts, efficiency: Estimate | None = None) -> "LayerReport":
        """Return the measures of a histogram, and its estimated efficiency, if there is one."""
        measured = cls(
            layer=name,
            axis=None,
            neurons=counts.neurons,
            states=counts.total,
            distinct=len(counts),
            entropy=counts.entropy(),
            efficiency=counts.efficiency(),
            ceiling=information.ceiling(counts.total, counts.neurons),
            fires=len(counts) > 1 or bool(firing_counts(counts).any()),
            always_fires=len(counts) == 1 and bool(firing_counts(counts).all()),
        )
        if efficiency is None:
            return measured._with_coverage(counts)
        return dataclasses.replace(
            measured,
            coverage=efficiency.coverage,
            quality=efficiency.quality,
            slope=efficiency.slope * counts.neurons,
            estimate=efficiency.value,
            standard_error=efficiency.standard_error,
            lower=efficiency.lower,
            upper=efficiency.upper,
        )

    def _with_coverage(self, counts: Counts) -> "LayerReport":
        """Return it with what a histogram tells, which is not how rows depend on each other."""
        coverage = information.coverage(counts)
        half = information.rarefaction(counts, max(1, counts.total // 2))
        quality = quality_of(coverage)
        return dataclasses.replace(
            self,
            coverage=coverage,
            quality="rough" if quality == "good" else quality,
            slope=self.entropy - half,
        )

    @classmethod
    def of_layer(cls, layer: Layer, counts: Counts, efficiency: Estimate | None) -> "LayerReport":
        """Return the measures of a capture point or a stored layer with this histogram."""
        ran, passes = layer.passes or (None, None)
        measured = cls.of(layer.name, counts, efficiency)
        return dataclasses.replace(
            measured,
            axis=layer.axis,
            axis_origin=layer.axis_origin,
            passes=ran,
            model_passes=passes,
            nan=0.0 if measured.fires else layer.nan_share,
            other_names=layer.other_names,
            inputs=_inputs_of(layer),
            failed_passes=layer.failed_passes,
        )

    @property
    def runs_always(self) -> bool:
        """Whether the layer runs in every pass that does not fail, as far as is known."""
        if self.passes is None or self.model_passes is None:
            return True
        return self.passes >= self.model_passes - self.failed_passes

    def is_in_step_with(self, other: "LayerReport") -> bool:
        """Return whether both layers may have seen the same inputs.

        One that is called several times in a pass may have as many times the inputs.
        """
        if self.passes is not None and other.passes not in (None, self.passes):
            return False
        least, most = sorted((self.inputs or 0, other.inputs or 0))
        return not least or most % least == 0

    @property
    def is_at_ceiling(self) -> bool:
        """Whether the entropy says how many rows there were, not what the layer can do.

        Not if all states are equally frequent: no more of them would show a higher entropy.
        """
        has_room = self.efficiency < 1 - 1e-9
        return has_room and (self.slope > 0.5 or self.shows_most_of_states)

    @property
    def shows_most_of_states(self) -> bool:
        """Whether the entropy is almost that of so many states that are all different."""
        return self.entropy > 0.95 * math.log2(self.states) > 0

    def why_constant(self) -> str:
        """Return why all rows have the same state, so that the efficiency is 0; else nothing.

        NaN are told apart from what does not fire for another reason.
        """
        if self.always_fires:
            return "all neurons always fire: exclude= it, or choose a threshold="
        if self.fires:
            return "is always in the same state" if self.distinct == 1 else ""
        nan = f": {format_part(self.nan)} of its first batch are NaN" if self.nan else ""
        return f"never fires{nan}"

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table, as texts."""
        return (
            printable_name(self.layer),
            "-"
            if self.axis is None
            else f"{self.axis} {printable_name(self.axis_origin or '')}".rstrip(),
            f"{self.neurons:,}",
            f"{self.states:,}",
            f"{self.distinct:,}",
            format_bits(self.entropy),
            format_percent(self.efficiency),
            format_percent(self.ceiling),
            format_percent(self.coverage),
            "-"
            if self.lower is None or self.upper is None
            else format_range(self.lower, self.upper),
            self.quality,
        )


def _inputs_of(layer: Layer) -> int | None:
    try:
        return layer.instance_count
    except InputsUnknown:
        return None


class Measured(NamedTuple):
    """A layer's measures, its estimated efficiency if there is one, and what figures need."""

    report: LayerReport
    estimate: Estimate | None
    profile: LayerProfile


def reading_counts(
    layer: Sized, on_measured: OnDone | None
) -> AbstractContextManager[OnDone | None]:
    """Return what is told of all states as often as measures may read them: once, in memory."""
    rows, width = layer.state_count, row_bytes(layer.neurons or 0)
    return readings(on_measured, rows, _READINGS if may_outgrow_memory(rows, width) else 1)


def measured_layer(layer: Layer, on_measured: OnDone | None = None) -> Measured:
    """Measure a capture point or a stored layer.

    ``on_measured`` is called with the states that were measured since the last call.
    """
    with reading_counts(layer, on_measured) as on_read:
        try:
            grouped = layer.counted_groups(progress=so_far(on_read))
        except NOT_BY_GROUP:
            return measured_counts(layer, layer.counted(progress=so_far(on_read)), None, on_read)
        if isinstance(grouped, RankGroups):  # of which no rank has all states
            return measured_counts(layer, layer.counted(), grouped.estimate("efficiency"))
        return measured_groups(layer, grouped, on_read)


# Of states of no known input; where only counts were kept, and not by group.
NOT_BY_GROUP = (LabelsMissing, RowsNotKept)


# ``on_read`` is called with the states that were read since the last call, of counts in files.


def measured_groups(
    layer: Layer, grouped: GroupedCounts | StoredGroups, on_read: OnDone | None = None
) -> Measured:
    """Measure a layer whose states are counted already, by group."""
    if isinstance(grouped, StoredGroups):
        grouped.group_sums(on_read)  # which the estimate uses
    return measured_counts(layer, grouped.together(), grouped.estimate("efficiency"), on_read)


def measured_counts(
    layer: Layer,
    counts: Counts,
    efficiency: Estimate | None = None,
    on_read: OnDone | None = None,
) -> Measured:
    """Measure a layer whose states are counted already."""
    if isinstance(counts, StoredCounts):
        counts.tally(on_read)  # which the measures use
    report = LayerReport.of_layer(layer, counts, efficiency)
    profile = LayerProfile.of(layer.name, counts, first_map(layer), on_read)
    return Measured(report, efficiency, profile)
