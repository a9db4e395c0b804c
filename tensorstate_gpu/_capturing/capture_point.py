"""CapturePoint: the framework-neutral probe. A bridge feeds it, a user reads its measures."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer, positive_integer
from tensorstate_gpu._arrays.firing_function import Fires, check_firing
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.thresholds import keep_threshold, plain_threshold
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._layers.layer_states import Readings
from tensorstate_gpu._layers.memory_rows import MemoryRows, check_compressor
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import NothingCaptured

if TYPE_CHECKING:
    from tensorstate_gpu.store import Store
    from tensorstate_gpu.store.record import Layer

KEEP = ("states", "counts")


class CapturePoint(Readings):
    """The states of one layer at one place, as they are captured.

    Parameters
    ----------
    name : str
    disk_path : str, path or Store, optional
        Keep the rows in a store, instead of in memory: a new one at this path, which the capture
        points of one program share, or one that was opened with options of its own.
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

    __module__ = "tensorstate_gpu"

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
            raise ValueError(
                'disk_path (or storage_path) and compressor are for keep="states": running counts '
                "are not written to disk"
            )
        if compressor is not None:
            check_compressor(compressor)
        self.name = name
        self.keep = keep
        self.threshold = keep_threshold(threshold)
        self.firing = check_firing(firing, threshold)
        self.neuron_axis = None if neuron_axis is None else integer(neuron_axis, "neuron_axis")
        self.disk_path = disk_path
        self.compressor = compressor
        self._store: Store | None = None
        self._lock = ForkSafeLock()
        self._start()

    def _start(self) -> None:
        self._pending_labels: Any = None
        self._axis: int | None = None
        self._accumulator: Accumulator | None = None
        self._resumed = False  # with rows that a store had already
        if self.disk_path is not None:
            self._claim_store()

    def _claim_store(self) -> None:
        from tensorstate_gpu.store.stores_by_path import store_for

        self._store = store_for(self.disk_path, self.name)
        found = self._store.claim(self.name, self._criterion(), self)
        if found is not None:
            self._axis, self._resumed = found.capture["neuron_axis"], True
            self._accumulator = self._open(found.neurons, found)

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
                    f"{self._accumulator.neurons}; reset_states() starts anew{self._with_loss()}"
                )
            elif self._resumed and axis != self._axis:
                raise ValueError(
                    f"{self.name}: a batch has its neurons along axis {axis}, those in "
                    f"{self._store} along {self._axis}"
                )

    def _with_loss(self) -> str:
        return f", and deletes what {self._store} has of this layer" if self._resumed else ""

    def _open(self, neurons: int, found: "Layer | None" = None) -> Accumulator:
        if self.keep == "counts":
            return CountsAccumulator(neurons)
        if self._store is None:
            return RowsAccumulator(neurons, MemoryRows(row_bytes(neurons), self.compressor))
        rows = self._store.layer(self.name, neurons, self.attributes(), found)
        accumulator = RowsAccumulator(neurons, rows, rows.instances())
        rows.receive = partial(_receive, self._lock, accumulator)
        rows.captured = partial(getattr, accumulator, "instances")
        rows.rewound = partial(accumulator.rewind, rows.instances)
        return accumulator

    def attributes(self) -> dict[str, Any]:
        """How states come about, as a store writes it: JSON."""
        return {"neuron_axis": self._axis, **self._criterion()}

    def _criterion(self) -> dict[str, Any]:
        if self.firing is not None:
            return {"firing": self.firing.__qualname__}
        return {"threshold": plain_threshold(self.threshold)}

    def append(self, packed: NDArray[np.uint8], instances: int, labels: Any = None) -> None:
        """Keep the rows of a batch: uint8 (instances x states per instance, bytes), in order.

        Raises TypeError or ValueError, and keeps nothing, when the rows do not fit the declared
        neurons or the instances, have bits set beyond the neurons, or the labels are not one per
        instance.
        """
        if type(packed) is not np.ndarray:
            raise TypeError(f"packed must be a NumPy array, got {type(packed).__name__}")
        instances = integer(instances, "instances")
        if self._store is not None:
            self._store.before_batch(self.name)
        with self._lock:
            if self._accumulator is None:
                raise ValueError(f"{self.name}: declare() the neurons before append()")
            given = self._pending_labels if labels is None else labels
            self._accumulator.append(packed, instances, given)

    def record(self, packed: Any, neurons: int, axis: int | None, instances: int) -> None:
        """declare() and append() in one, for a batch that states.pack() made, wherever it lies."""
        if self._store is not None:
            self._store.before_batch(self.name)
        with self._lock:  # a reset by another thread comes before or after, not between
            self.declare(neurons, axis)
            assert self._accumulator is not None
            self._accumulator.append(packed, instances, self._pending_labels, trusted=True)

    def labels(self, labels: Any) -> None:
        """Label the instances of the next batches, one integer or string each; None ends it."""
        self._pending_labels = labels

    # ---- what Readings reads --------------------------------------------------------------------

    @property
    def axis(self) -> int | None:
        """The axis along which the neurons lay in the first batch; None before it."""
        with self._reading():
            return self._axis

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
        """Commit what is still buffered, where rows are kept in a store."""
        with self._reading():
            pass  # nothing is on its way
        if self._store is not None:
            self._store.flush()

    def forget_broken_pass(self) -> None:
        """Forget, in a store, the batches of a forward pass that an exception ended."""
        if self._store is not None:
            self._store.forget_broken_pass()

    def _there(self) -> Accumulator | None:
        return self._accumulator

    def _reading(self) -> ForkSafeLock:
        """The lock, when nothing is on its way any more: who records needs it too."""
        if self.settle is not None:
            self.settle()
        return self._lock

    def _empty(self) -> NothingCaptured:
        return NothingCaptured(
            f"{self.name}: nothing captured yet. Run the model; a layer that is never called "
            "captures nothing (exclude= it), nor does a hook attached after the first compiled call"
        )

    def __getstate__(self) -> dict[str, Any]:
        fields = ("name", "keep", "threshold", "firing", "neuron_axis", "compressor")
        return {field: getattr(self, field) for field in fields}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.disk_path = self._store = None
        self._lock = ForkSafeLock()
        self._start()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, keep={self.keep!r}, "
            f"neurons={self.neurons}, {self.state_count:,} states)"
        )


def _receive(lock: ForkSafeLock, accumulator: RowsAccumulator) -> None:
    """Take what is on its way from a device; without the capture point, which may be gone."""
    with lock:
        accumulator.receive(wait=True)


def _size_along(axis: int, input_shape: Any) -> int:
    if isinstance(input_shape, str) or not isinstance(input_shape, Iterable):
        raise TypeError(f"input_shape must be a sequence of sizes, got {input_shape!r}")
    sizes = tuple(input_shape)
    if not -len(sizes) <= axis < len(sizes):
        raise ValueError(f"input_shape {sizes} has no neuron axis {axis}")
    return positive_integer(sizes[axis], f"input_shape[{axis}]")


AbstractStateCapture = CapturePoint
