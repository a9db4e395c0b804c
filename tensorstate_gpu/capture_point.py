"""CapturePoint: the framework-neutral probe. A bridge feeds it, a user reads its measures."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._firing import keep_threshold, plain_threshold
from tensorstate_gpu._firing_function import Fires, check_firing
from tensorstate_gpu._locks import ForkSafeLock
from tensorstate_gpu._numbers import integer, positive_integer
from tensorstate_gpu.accumulators import Accumulator, CountsAccumulator, RowsAccumulator
from tensorstate_gpu.counts import StateCounts
from tensorstate_gpu.memory_rows import MemoryRows, check_compressor

if TYPE_CHECKING:
    from tensorstate_gpu.store import Store

KEEP = ("states", "counts")


class CapturePoint:
    """The states of one layer at one place, as they are captured.

    Parameters
    ----------
    name : str
    disk_path : str or path, optional
        Keep the rows on disk, in the zarr group at this path, instead of in memory.
    keep : "states" or "counts"
        Every packed row, in order; or only how often each distinct one occurred, in memory bounded
        by the distinct states.
    threshold : real number, or one per neuron
        A neuron fires when its activation is greater.
    firing : function of one number that returns a bool, optional
        Decides instead of a threshold, as in compress_states.
    neuron_axis : int, optional
        The axis whose entries are the bits of a state; a bridge chooses one where it is None.
    compressor : numcodecs codec, optional
        For rows kept in memory. None by default: the states of wide layers hardly shrink, and a
        codec is slower than the packing itself (docs/performance.md).

    A capture point is safe to use from several threads. Copies and pickles of it are empty, and
    keep their rows in memory.

    Raises
    ------
    TypeError, ValueError
        For an unknown ``keep``, or ``disk_path`` with ``keep="counts"``. Every measure raises
        ValueError while nothing has been captured.
    """

    # A bridge's: waits for batches that are on their way here.
    settle: Callable[[], object] | None = None

    def __init__(
        self,
        name: str,
        disk_path: Any = None,
        *,
        keep: str = "states",
        threshold: Any = 0.0,
        firing: Fires | None = None,
        neuron_axis: int | None = None,
        compressor: Any = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty str, got {name!r}")
        if not isinstance(keep, str) or keep not in KEEP:
            raise ValueError(f"keep must be one of {KEEP}, got {keep!r}")
        if keep == "counts" and (disk_path is not None or compressor is not None):
            raise ValueError('disk_path and compressor are for keep="states"')
        if compressor is not None:
            check_compressor(compressor)
        self.name = name
        self.keep = keep
        self.threshold = keep_threshold(threshold)
        self.firing = check_firing(firing, threshold)
        self.neuron_axis = None if neuron_axis is None else integer(neuron_axis, "neuron_axis")
        self.disk_path = disk_path
        self.compressor = compressor
        self._lock = ForkSafeLock()
        self._start()

    def _start(self) -> None:
        self._pending_labels: Any = None
        self._axis: int | None = None
        self._accumulator: Accumulator | None = None
        self._store = None if self.disk_path is None else self._reserve_store()

    def _reserve_store(self) -> "Store":
        from tensorstate_gpu.store import shared_store

        return shared_store(self.disk_path, self.name)

    # ---- what a bridge calls -------------------------------------------------------------------

    def declare(self, neurons: int, axis: int | None = None) -> None:
        """Say how many neurons a state has, and along which axis; ValueError on a change."""
        with self._lock:
            if self._accumulator is None:
                neurons = positive_integer(neurons, "neurons")
                axis = None if axis is None else integer(axis, "axis")
                self._axis = axis
                self._accumulator = self._open(neurons)
            elif neurons != self._accumulator.neurons:
                raise ValueError(
                    f"{self.name}: a batch has {neurons} neurons, earlier ones "
                    f"{self._accumulator.neurons}; reset_states() starts anew"
                )

    def _open(self, neurons: int) -> Accumulator:
        if self.keep == "counts":
            return CountsAccumulator(neurons)
        if self._store is None:
            return RowsAccumulator(neurons, MemoryRows((neurons + 7) // 8, self.compressor))
        return RowsAccumulator(neurons, self._store.add(self.name, neurons, self.attributes()))

    def attributes(self) -> dict[str, Any]:
        """What a store writes beside the rows, as JSON knows it."""
        if self.firing is not None:
            return {"neuron_axis": self._axis, "firing": self.firing.__qualname__}
        return {"neuron_axis": self._axis, "threshold": plain_threshold(self.threshold)}

    def append(self, packed: NDArray[np.uint8], instances: int, labels: Any = None) -> None:
        """Keep the rows of a batch: uint8 (instances x states per instance, bytes), in order.

        Raises TypeError or ValueError, and keeps nothing, when the rows do not fit the declared
        neurons or the instances, have bits set beyond the neurons, or the labels are not one per
        instance.
        """
        if type(packed) is not np.ndarray:
            raise TypeError(f"packed must be a NumPy array, got {type(packed).__name__}")
        instances = integer(instances, "instances")
        with self._lock:
            if self._accumulator is None:
                raise ValueError(f"{self.name}: declare() the neurons before append()")
            given = self._pending_labels if labels is None else labels
            self._accumulator.append(packed, instances, given)

    def record(self, packed: Any, neurons: int, axis: int | None, instances: int) -> None:
        """declare() and append() in one, for a batch that states.pack() made, wherever it lies."""
        with self._lock:  # a reset by another thread comes before or after, not between
            self.declare(neurons, axis)
            assert self._accumulator is not None
            self._accumulator.append(packed, instances, self._pending_labels, trusted=True)

    def labels(self, labels: Any) -> None:
        """Label the instances of the next batches, one integer or string each; None ends it.

        Labels are kept in memory, also where the rows go to disk.
        """
        self._pending_labels = labels

    # ---- what the user reads -------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """States captured so far, with repetition."""
        with self._reading():
            return 0 if self._accumulator is None else self._accumulator.instances.rows

    @property
    def instance_count(self) -> int:
        """Model inputs seen so far."""
        with self._reading():
            return 0 if self._accumulator is None else self._accumulator.instances.count

    @property
    def neurons(self) -> int | None:
        """Neurons of a state; None before the first batch."""
        with self._reading():
            return None if self._accumulator is None else self._accumulator.neurons

    @property
    def axis(self) -> int | None:
        """The axis along which the neurons lay in the first batch; None before it."""
        with self._reading():
            return self._axis

    def states_per_instance(self) -> int:
        """States that each instance gave; ValueError when instances differ."""
        with self._reading():
            return self._captured().instances.states_per_instance()

    def histogram(self, index: Any = None) -> StateCounts:
        """How often each distinct state occurred, in all instances or those of ``index``.

        ``index`` is an int, a slice, or an array of ints or bools over the instances; it needs
        keep="states".
        """
        with self._reading():
            captured = self._captured()
            return captured.histogram() if index is None else captured.histogram_of(index)

    def counts_by(self, labels: Any = None) -> dict[Any, StateCounts]:
        """One StateCounts for each label, in one pass over the rows.

        ``labels``: one integer or string per instance (needs keep="states"); by default those that
        were given during capture.
        """
        with self._reading():
            return self._captured().by_label(labels)

    def counts(self, index: Any = None) -> NDArray[np.int64]:
        """How often each distinct state occurred, aligned with ``state_ids(index)``."""
        return self.histogram(index).counts

    def state_ids(self, index: Any = None) -> list[bytes]:
        """The distinct states as bytes, in order."""
        return self.histogram(index).state_ids()

    @property
    def states(self) -> NDArray[np.bool_]:
        """The distinct states, unpacked: bool (distinct, neurons)."""
        return self.histogram().states

    @property
    def raw_states(self) -> NDArray[np.uint8]:
        """All states, packed, in the order they came: uint8 (states, bytes)."""
        return np.concatenate(list(self.chunks()))

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """All packed rows that are there at the call, in order, piece by piece."""
        with self._reading():
            return self._captured().chunks()

    def entropy(self, alpha: float | None = 1) -> float:
        """Rényi entropy of order alpha of the states, in bits; None gives the maximum."""
        return self.max_entropy() if alpha is None else self.histogram().entropy(alpha)

    def max_entropy(self) -> int:
        """The entropy if all states were equally likely, in bits: the number of neurons."""
        neurons = self.neurons
        if neurons is None:
            raise self._empty()
        return neurons

    def efficiency(self, alpha1: float = 1, alpha2: float | None = None) -> float:
        """entropy(alpha1) over entropy(alpha2), or over the neurons where alpha2 is None."""
        return self.histogram().efficiency(alpha1, alpha2)

    def reset_states(self, input_shape: Any = None) -> None:
        """Forget everything captured, on disk too.

        ``input_shape``: the shape of the activations to come; the neuron axis of it (by default the
        last) says how many neurons they have. A bad one raises TypeError or ValueError, and
        nothing is forgotten.
        """
        axis = -1 if self.neuron_axis is None else self.neuron_axis
        neurons = None if input_shape is None else _size_along(axis, input_shape)
        with self._reading():
            if self._accumulator is not None:
                self._accumulator.discard()
            if self._store is not None:
                self._store.remove(self.name)
            self._start()
            if neurons is not None:
                self.declare(neurons, axis)

    def give_up(self) -> None:
        """Free the name on disk, with all that was captured: nothing will be."""
        if self._store is not None:
            self._store.give_up(self.name)

    def flush(self) -> None:
        """Write out what is still buffered, where rows are kept on disk."""
        with self._reading():
            if self._accumulator is not None:
                self._accumulator.flush()

    def _reading(self) -> ForkSafeLock:
        """The lock, when nothing is on its way any more: who records needs it too."""
        if self.settle is not None:
            self.settle()
        return self._lock

    def _captured(self) -> Accumulator:
        """The accumulator, once there are rows and the ledger holds."""
        captured = self._accumulator
        if captured is None or not captured.instances.rows:
            raise self._empty()
        if captured.rows != captured.instances.rows:
            raise RuntimeError(
                f"{self.name}: {captured.instances.rows} rows were captured, {captured.rows} kept"
            )
        return captured

    def _empty(self) -> ValueError:
        return ValueError(
            f"{self.name}: nothing captured yet. Run the model; a layer that is never called "
            "captures nothing (exclude= it), nor does a hook attached after the first compiled call"
        )

    def __getstate__(self) -> dict[str, Any]:
        fields = ("name", "keep", "threshold", "firing", "neuron_axis", "compressor")
        return {field: getattr(self, field) for field in fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.disk_path = None
        self._lock = ForkSafeLock()
        self._start()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, keep={self.keep!r}, "
            f"neurons={self.neurons}, {self.state_count:,} states)"
        )


def _size_along(axis: int, input_shape: Any) -> int:
    if isinstance(input_shape, str) or not isinstance(input_shape, Iterable):
        raise TypeError(f"input_shape must be a sequence of sizes, got {input_shape!r}")
    sizes = tuple(input_shape)
    if not -len(sizes) <= axis < len(sizes):
        raise ValueError(f"input_shape {sizes} has no neuron axis {axis}")
    return positive_integer(sizes[axis], f"input_shape[{axis}]")


AbstractStateCapture = CapturePoint
