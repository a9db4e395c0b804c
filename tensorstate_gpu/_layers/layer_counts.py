"""LayerCounts: how often the states of a layer occurred, and the measures of these counts."""

from collections.abc import Iterable, Mapping
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.capture_warnings import warn_of_shared_calls
from tensorstate_gpu._layers.captured_layer import CapturedLayer
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator, FixedCounts
from tensorstate_gpu._layers.instance_groups import checked_groups
from tensorstate_gpu._process.progress import ProgressCallback, counted_then_written, running_total
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, check_place, saved
from tensorstate_gpu._states.stored_groups import StoredGroups, load_each
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import Measure
from tensorstate_gpu.information.estimators import Estimator


class LayerCounts(CapturedLayer):
    """Reads the counts of a layer: all together, by label, by group, and by both.

    Each is read in one way, which leaves them in files where memory is short: counted(),
    counted_by(), counted_groups(), counted_groups_by(). The others load what these return.
    """

    _listed = (
        "counted counted_by counted_groups counted_groups_by counts counts_by efficiency "
        "entropy estimate grouped grouped_by histogram max_entropy state_ids states"
    )

    @property
    def keeps_counts(self) -> bool:
        """Whether counts are kept, and no rows."""
        with self._read_lock():
            return isinstance(self._find_accumulator(), CountsAccumulator)

    def fixed_counts(self) -> FixedCounts | None:
        """Return the current counts if only these are kept; None if rows are."""
        with self._reading() as accumulator:
            return accumulator.fixed() if isinstance(accumulator, CountsAccumulator) else None

    @overload
    def histogram(
        self, index: Any = None, *, progress: ProgressCallback | None = None
    ) -> StateCounts: ...
    @overload
    def histogram(
        self, index: Any = None, *, to: Path, progress: ProgressCallback | None = None
    ) -> StoredCounts: ...
    def histogram(
        self,
        index: Any = None,
        *,
        to: Path | None = None,
        progress: ProgressCallback | None = None,
    ) -> StateCounts | StoredCounts:
        """Count the distinct states, of all instances or of those selected by ``index``.

        ``index`` is an int, a slice, or an array of ints or bools over the instances. It needs
        keep="states". ``to``: the path of a new store of counts; the result is then a StoredCounts,
        which may be larger than memory. ``progress`` is called with the number of rows counted so
        far, and that of all; with ``to`` each counts twice, as it is written, too. Raises
        InputsUnknown if the index selects some, but not
        all, of several instances whose states cannot be told apart, and MemoryError without ``to``
        for counts beyond a limit that was set (set_memory_limit). Warns of inputs that Keras has
        shuffled.
        """
        if to is not None:
            check_place(to)
        with self._reading(index) as accumulator:
            rows = accumulator.ledger.rows
            on_counted, on_written = running_total(progress, rows), None
            if to is not None:
                on_counted, on_written = counted_then_written(progress, rows)
            if index is not None:
                counts, due = accumulator.counts_of(index, on_counted), None
            elif to is None:
                return accumulator.histogram(on_counted)
            else:
                counts, due = accumulator.unchecked_counts(on_counted), rows
        if to is None:
            return counts.load()
        return saved(counts, to, rows=due, progress=on_written)

    def counted(self, *, progress: ProgressCallback | None = None) -> StateCounts | StoredCounts:
        """Count the distinct states of all instances: in files, where memory is short.

        ``progress`` is called with the number of rows counted so far, and that of all.
        """
        with self._reading() as accumulator:
            return accumulator.counted(running_total(progress, accumulator.ledger.rows))

    def counts_by(
        self, labels: Any = None, *, progress: ProgressCallback | None = None
    ) -> dict[Any, StateCounts]:
        """Return one StateCounts per label, computed in one pass over the rows.

        Labels of which there are only inputs without rows are left out.
        ``labels``: one integer or string per instance, which needs keep="states". By default, the
        labels that were given during capture. ``progress`` is called with the number of rows
        counted so far, and that of all. Raises LabelsMissing if some instances have none, and
        InputsUnknown (one of these) if some states belong to no known instance. Raises MemoryError
        if they are together more than a limit that was set: counted_by() leaves them in files.
        Warns if labels are given for inputs that Keras has shuffled.
        """
        return load_each(self.counted_by(labels, progress=progress))

    def counted_by(
        self, labels: Any = None, *, progress: ProgressCallback | None = None
    ) -> Mapping[Any, StateCounts | StoredCounts]:
        """Return the counts by label: in files, where memory is short; see counts_by()."""
        with self._reading(labels) as accumulator:
            on_counted = running_total(progress, accumulator.ledger.rows)
            return accumulator.counted_by_label(labels, on_counted)

    def grouped(
        self, groups: int | None = None, *, progress: ProgressCallback | None = None
    ) -> GroupedCounts:
        """Return the counts by group of instances, which show the errors of measures.

        All instances of a unit are in one group, which a hash of the unit decides; see
        Run.labels(). Without units, that of an instance's number. ``groups``: how many; by default
        those of the capture, or 32. With keep="counts", they must be kept: ``groups=32``.
        ``progress`` is called with the number of rows counted so far, and that of all. Raises
        InputsUnknown if some states belong to no known instance, and MemoryError beyond a limit
        that was set: counted_groups() leaves them in files. Warns of calls that share the layer's
        capture point, if nothing tells which of their inputs are the same.
        """
        return self.counted_groups(groups, progress=progress).load()

    def counted_groups(
        self, groups: int | None = None, *, progress: ProgressCallback | None = None
    ) -> GroupedCounts | StoredGroups:
        """Return the counts by group of instances: in files, where memory is short; see grouped().

        ``counted_groups().estimate()`` is the measure with its error, whichever it is.
        """
        with self._reading() as accumulator:
            on_counted = running_total(progress, accumulator.ledger.rows)
            found = accumulator.counted_groups(self._group_number(groups), on_counted)
        self._warn_if_shared([found])
        return found

    def grouped_by(
        self,
        labels: Any = None,
        groups: int | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> dict[Any, GroupedCounts]:
        """Return the counts by group for each label; see grouped() and counts_by().

        Labels without rows are left out here, too; their inputs are in the sample of grouped().
        Raises MemoryError if they are together more than a limit that was set: counted_groups_by()
        leaves them in files.
        """
        return load_each(self.counted_groups_by(labels, groups, progress=progress))

    def counted_groups_by(
        self,
        labels: Any = None,
        groups: int | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> Mapping[Any, GroupedCounts | StoredGroups]:
        """Return the counts by group for each label: in files, where memory is short."""
        with self._reading(labels) as accumulator:
            on_counted = running_total(progress, accumulator.ledger.rows)
            number = self._group_number(groups)
            found = accumulator.counted_groups_by_label(number, labels, on_counted)
        self._warn_if_shared(found.values())
        return found

    def _warn_if_shared(self, found: Iterable[GroupedCounts | StoredGroups]) -> None:
        if self.facts().shared and not all(each.sample.has_units for each in found):
            warn_of_shared_calls(self.name)

    def estimate(self, measure: Measure = "entropy") -> Estimate:
        """Return the entropy or efficiency of the source, with its error; information.estimate."""
        return self.counted_groups().estimate(measure)

    def _group_number(self, groups: int | None) -> int | None:
        return self.attributes().get("groups") if groups is None else checked_groups(groups)

    def counts(self, index: Any = None) -> NDArray[np.int64]:
        """Return how often each distinct state occurred, aligned with ``state_ids(index)``."""
        return self.histogram(index).counts

    def state_ids(self, index: Any = None) -> list[bytes]:
        """Return the distinct states as bytes, sorted."""
        return self.histogram(index).state_ids()

    @property
    def states(self) -> NDArray[np.bool_]:
        """The distinct states, unpacked: bool (distinct, neurons)."""
        return self.histogram().states

    def entropy(self, alpha: float | None = 1, estimator: Estimator = "plugin") -> float:
        """Return the Rényi entropy of order alpha of the states, in bits.

        None gives the maximum, max_entropy(). ``estimator`` as for `information.entropy`.
        """
        return self.max_entropy() if alpha is None else self.counted().entropy(alpha, estimator)

    def max_entropy(self) -> int:
        """Return the entropy of equally likely states, in bits: the number of neurons."""
        neurons = self.neurons
        if neurons is None:
            raise self._no_states_error()
        return neurons

    def efficiency(
        self, alpha1: float = 1, alpha2: float | None = None, estimator: Estimator = "plugin"
    ) -> float:
        """Return entropy(alpha1) / entropy(alpha2); None stands for the number of neurons."""
        return self.counted().efficiency(alpha1, alpha2, estimator)
