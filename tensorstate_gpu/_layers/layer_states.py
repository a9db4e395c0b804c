"""LayerStates: the measures and rows that capture points and stored layers share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator, FixedCounts
from tensorstate_gpu._layers.instance_groups import checked_groups
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, saved
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.errors import (
    InputsUnknown,
    LabelsMissing,
    LedgerError,
    NothingCaptured,
    PassesMissed,
    warn_of_shuffled,
)
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import Measure
from tensorstate_gpu.information.estimators import Estimator

if TYPE_CHECKING:
    from tensorstate_gpu._layers.arrow_rows import ArrowRows


class LayerStates(ABC):
    """Counts, measures and rows of one layer. Most raise ValueError while nothing is captured."""

    name: str

    @abstractmethod
    def facts(self) -> LayerFacts:
        """Return what is known of the layer besides its states."""

    @property
    @abstractmethod
    def axis(self) -> int | None:
        """The axis of the neurons."""

    @property
    @abstractmethod
    def axis_origin(self) -> str | None:
        """Where the axis is known from."""

    @property
    def state_count(self) -> int:
        """Number of states captured so far, including repetitions."""
        with self._read_lock():
            accumulator = self._find_accumulator()
            return 0 if accumulator is None else accumulator.ledger.rows

    @property
    def instance_count(self) -> int:
        """Number of model inputs (instances) captured so far.

        Raises InputsUnknown if passes had inputs that could not be counted.
        """
        with self._read_lock():
            accumulator = self._find_accumulator()
            with self._naming_layer():
                return 0 if accumulator is None else accumulator.ledger.count

    @property
    def neurons(self) -> int | None:
        """Number of neurons of the layer; None before the first batch."""
        with self._read_lock():
            accumulator = self._find_accumulator()
            return None if accumulator is None else accumulator.neurons

    @property
    def passes(self) -> tuple[int, int] | None:
        """In how many passes of its model the layer ran, and how many there were.

        Counted from attaching or resetting; in a store, over all captures into it. None where it is
        not known: for JAX, for points attached by hand, and as long as only parts of the
        model were called.
        """
        return self.facts().passes

    @property
    def failed_passes(self) -> int:
        """How many of the model's passes have failed, and so may not have come to the layer."""
        return self.facts().failed

    @property
    def other_names(self) -> tuple[str, ...]:
        """The other names, of a layer that is registered in its model under several."""
        return self.facts().other_names

    @property
    def call_of(self) -> str | None:
        """For a later call of a layer within a pass, the name of its first call's states."""
        return self.facts().call_of

    @property
    def spatial_shape(self) -> tuple[int, ...] | None:
        """The sizes of the activations without inputs and neurons: (height, width) of images.

        None if inputs differ in them, or if they are not known.
        """
        return self.facts().spatial_shape

    @property
    def nan_share(self) -> float:
        """The share of NaN in the first batch, from 0 to 1, if nothing in that batch fires; else 0.

        Known while a model is captured in PyTorch, or eagerly in Keras; stores do not keep it.
        """
        return 0.0

    def states_per_instance(self) -> int:
        """Return the number of states per instance. Raises ValueError if instances differ."""
        with self._read_lock(), self._naming_layer():
            return self._require_accumulator().ledger.states_per_instance()

    def snapshot(self) -> tuple[Iterator[NDArray[np.uint8]], Ledger]:
        """Return the current rows, in chunks, with the matching ledger. Both can be read once."""
        with self._read_lock():
            accumulator = self._require_accumulator()
            return accumulator.chunks(), accumulator.ledger.snapshot()

    @property
    def keeps_counts(self) -> bool:
        """Whether counts are kept, and no rows."""
        with self._read_lock():
            return isinstance(self._find_accumulator(), CountsAccumulator)

    def check_captured(self) -> None:
        """Raise an error if there are no states, or not those of all passes."""
        with self._read_lock():
            self._require_accumulator()

    def fixed_counts(self) -> FixedCounts | None:
        """Return the current counts if only these are kept; None if rows are."""
        with self._read_lock():
            accumulator = self._require_accumulator()
            return accumulator.fixed() if isinstance(accumulator, CountsAccumulator) else None

    @overload
    def histogram(self, index: Any = None) -> StateCounts: ...
    @overload
    def histogram(self, index: Any = None, *, to: Path) -> StoredCounts: ...
    def histogram(self, index: Any = None, *, to: Path | None = None) -> StateCounts | StoredCounts:
        """Count the distinct states, of all instances or of those selected by ``index``.

        ``index`` is an int, a slice, or an array of ints or bools over the instances. It needs
        keep="states". ``to``: the path of a new store of counts; the result is then a StoredCounts,
        which may be larger than memory. Raises InputsUnknown if the index selects some, but not
        all, of several instances whose states cannot be told apart, and MemoryError without ``to``
        for counts beyond a limit that was set (set_memory_limit). Warns of inputs that Keras has
        shuffled.
        """
        if index is not None:
            self._warn_if_shuffled()
        with self._read_lock(), self._naming_layer():
            accumulator = self._require_accumulator()
            if index is None:
                counts = accumulator.histogram() if to is None else accumulator.counted()
            else:
                counts = accumulator.counts_of(index)
        if to is not None:
            return saved(counts, to)
        return counts.load() if isinstance(counts, StoredCounts) else counts

    def counted(self) -> StateCounts | StoredCounts:
        """Count the distinct states of all instances: in files, where memory is short."""
        with self._read_lock(), self._naming_layer():
            return self._require_accumulator().counted()

    def counts_by(self, labels: Any = None) -> dict[Any, StateCounts]:
        """Return one StateCounts per label, computed in one pass over the rows.

        ``labels``: one integer or string per instance, which needs keep="states". By default, the
        labels that were given during capture. Raises LabelsMissing if some instances have none, and
        InputsUnknown (one of these) if some states belong to no known instance. Warns if labels are
        given for inputs that Keras has shuffled.
        """
        if labels is not None:
            self._warn_if_shuffled()
        with self._read_lock(), self._naming_layer():
            return self._require_accumulator().histograms_by_label(labels)

    def counted_by(self, labels: Any = None) -> Mapping[Any, StateCounts | StoredCounts]:
        """Return the counts by label: in files, where memory is short; see counts_by()."""
        if labels is not None:
            self._warn_if_shuffled()
        with self._read_lock(), self._naming_layer():
            return self._require_accumulator().counted_by_label(labels)

    def counted_groups(
        self, groups: int | None = None, *, progress: ProgressCallback | None = None
    ) -> GroupedCounts | StoredGroups:
        """Return the counts by group of instances: in files, where memory is short; see grouped().

        ``counted_groups().estimate()`` is the measure with its error, whichever it is.
        """
        with self._read_lock(), self._naming_layer():
            number = self._group_number(groups)
            return self._require_accumulator().counted_groups(number, progress)

    def counted_groups_by(
        self, labels: Any = None, groups: int | None = None
    ) -> Mapping[Any, GroupedCounts | StoredGroups]:
        """Return the counts by group for each label: in files, where memory is short."""
        if labels is not None:
            self._warn_if_shuffled()
        with self._read_lock(), self._naming_layer():
            number = self._group_number(groups)
            return self._require_accumulator().counted_groups_by_label(number, labels)

    def grouped(
        self, groups: int | None = None, *, progress: ProgressCallback | None = None
    ) -> GroupedCounts:
        """Return the counts by group of instances, which show the errors of measures.

        All instances of a unit are in one group, which a hash of the unit decides; see
        Run.labels(). Without units, that of an instance's number. ``groups``: how many; by default
        those of the capture, or 32. With keep="counts", they must be kept: ``groups=32``.
        ``progress`` is called with the number of rows counted so far. Raises InputsUnknown if some
        states belong to no known instance.
        """
        with self._read_lock(), self._naming_layer():
            number = self._group_number(groups)
            return self._require_accumulator().grouped(number, progress)

    def grouped_by(
        self,
        labels: Any = None,
        groups: int | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> dict[Any, GroupedCounts]:
        """Return the counts by group for each label; see grouped() and counts_by().

        Raises MemoryError if they are together more than get_memory_limit(): counted_groups_by()
        leaves them in files.
        """
        if labels is not None:
            self._warn_if_shuffled()
        with self._read_lock(), self._naming_layer():
            number = self._group_number(groups)
            return self._require_accumulator().grouped_by_label(number, labels, progress)

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

    @property
    def raw_states(self) -> NDArray[np.uint8]:
        """All states, packed, in the order of capture: uint8 (states, bytes)."""
        return np.concatenate(list(self.chunks()))

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Return an iterator over the packed rows captured so far, in order, in chunks."""
        with self._read_lock():
            return self._require_accumulator().chunks()

    def rows_with_instances(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
        """Return all packed rows, the number of the instance of each, and how many there are.

        Raises InputsUnknown if some rows belong to no known instance. Warns of inputs that Keras
        has shuffled. Needs keep="states".
        """
        self._warn_if_shuffled()
        with self._read_lock(), self._naming_layer():
            accumulator = self._require_accumulator()
            rows, ledger = np.concatenate(list(accumulator.chunks())), accumulator.ledger
            ledger.require_assigned()
            return rows, ledger.instances_of_rows(0, len(rows)), ledger.count

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

    def to_arrow(self) -> Any:
        """Return all rows as an Arrow table.

        Needs pyarrow (the extra ``export``) and keep="states". Columns: ``instance`` (int64),
        ``state`` (fixed-size binary, the packed row) and, if every instance has a label, ``label``
        (int64 or string); the same for ``unit``. An unknown instance is null. The schema's metadata
        contain ``name`` as text, and as JSON ``neurons``, ``neuron_axis``, and ``threshold`` or
        ``firing``.
        """
        return self._arrow_rows().to_arrow()

    def to_pandas(self) -> Any:
        """Return the table of to_arrow() as a data frame; states are bytes. Also needs pandas."""
        from tensorstate_gpu._states.arrow_library import to_pandas

        return to_pandas(self.to_arrow())

    def to_parquet(self, path: Any, *, progress: ProgressCallback | None = None) -> None:
        """Write the table of to_arrow() to a new Parquet file, chunk by chunk.

        ``progress`` is called with the number of rows written so far. Raises ValueError if the path
        exists. The file gets its name when it is complete; nothing is left after an error or an
        interrupt.
        """
        self._arrow_rows().to_parquet(path, progress)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table of to_arrow() as a stream, for other Arrow libraries. Needs pyarrow.

        ``polars.DataFrame(layer)`` and ``pyarrow.table(layer)`` call it; the rows are read chunk by
        chunk.
        """
        return self._arrow_rows().to_stream(requested_schema)

    def _arrow_rows(self) -> "ArrowRows":
        from tensorstate_gpu._layers.arrow_rows import ArrowRows

        with self._read_lock():
            accumulator = self._require_accumulator()
            chunks = accumulator.chunks()
            return ArrowRows(
                self.name, accumulator.neurons, self.attributes(), accumulator.ledger, chunks
            )

    def units(self) -> NDArray[Any]:
        """Return the unit of each instance: which instances belong together; see Run.labels().

        Raises LabelsMissing if some instances have none. Needs keep="states".
        """
        with self._read_lock(), self._naming_layer():
            accumulator = self._require_accumulator()
            accumulator.chunks()  # waits for rows in transit; not where only counts are kept
            return np.concatenate(list(accumulator.ledger.note_pieces("units")))

    def _warn_if_shuffled(self) -> None:
        if self.facts().shuffled:
            warn_of_shuffled(self.name)

    @contextmanager
    def _naming_layer(self) -> Iterator[None]:
        """Say in errors about labels and inputs which layer it is; of unknown inputs, also why."""
        try:
            yield
        except InputsUnknown as error:
            cause = self.attributes().get("inputs_unknown", "")
            raise InputsUnknown(f"{self.name}: {error}{cause and f' ({cause})'}") from None
        except LabelsMissing as error:
            raise LabelsMissing(f"{self.name}: {error}") from None

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Return how states are captured, as JSON: neuron_axis, and threshold or firing."""

    @abstractmethod
    def _find_accumulator(self) -> Accumulator | None:
        """Return the accumulator, or None before the first batch."""

    @abstractmethod
    def _read_lock(self) -> AbstractContextManager[object]:
        """Return a lock that blocks new batches while states are read."""

    def _require_accumulator(self) -> Accumulator:
        """Return the accumulator.

        Raises an error if it has no rows, not those of its ledger, or not those of all passes.
        """
        self._check_passes()
        accumulator = self._find_accumulator()
        if accumulator is None or not accumulator.ledger.rows:
            raise self._no_states_error()
        recorded, kept = accumulator.ledger.rows, accumulator.rows
        if kept != recorded:
            raise LedgerError(f"{self.name}: {recorded} rows were captured, {kept} kept")
        return accumulator

    def _check_passes(self) -> None:
        """Raise PassesMissed if the layer is known to have run without its capture point."""
        facts = self.facts()
        if facts.bypass is not None and facts.passes is not None:
            ran, passes = facts.passes
            raise PassesMissed(
                f"{self.name}: {passes - ran:,} of the model's {passes:,} passes ran without this "
                f"capture point, so a measure would be that of a part. Cause: {facts.bypass}"
            )

    @abstractmethod
    def _no_states_error(self) -> NothingCaptured:
        """Return the error that explains why there are no states."""
