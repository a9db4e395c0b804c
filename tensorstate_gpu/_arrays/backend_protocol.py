"""Backend: the protocol of the CPU and the CUDA backend, and of their running counts."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.cupy_types import DeviceArray, Place
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest

# The type of the arrays that a backend returns. It also takes arrays of this type, as Any.
NativeT = TypeVar("NativeT", bound=NativeArray, covariant=True)


class _RunningCounts(Protocol):
    """Running counts of packed states: mutable and exact. Memory grows with the distinct states."""

    @property
    def total(self) -> int:
        """The number of rows added so far."""

    def add(self, packed: Any, weights: Any = None) -> None:
        """Count the rows of ``packed`` (states, bytes), each ``weights`` times (default: once)."""


class Counter(_RunningCounts, Protocol):
    """Running counts whose result is in the host's memory."""

    @property
    def nbytes(self) -> int:
        """About how many bytes the counts take in the host's memory, if they are many."""

    def result(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the distinct rows in order (distinct, bytes), and their int64 counts."""


class HostCounter(Counter, Protocol):
    """Running counts in the host's memory, which can be taken away when a budget is full."""

    @property
    def rows_at_a_time(self) -> int:
        """The largest batch that is counted within the budget."""

    @property
    def is_full(self) -> bool:
        """Whether the counts take so much of the budget that they should be taken away."""

    def histograms(self) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Return histograms, each in order, which together are the counts. For reading only."""

    def clear(self) -> None:
        """Forget all rows, to count others of the same kind."""


class DeviceCounter(_RunningCounts, Protocol):
    """Counts on a device that may run out of memory. add() then raises, and counts no row."""

    def to_host(self, rows: Any) -> NDArray[np.uint8]:
        """Return rows that were added before as a NumPy array."""

    def result(self) -> tuple[DeviceArray, DeviceArray]:
        """Return the distinct rows in order (distinct, bytes), and their int64 counts."""

    def drain(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Move rows, in no order, and their counts to the host; none stay here.

        A row may be there more than once.
        """


class Transfer(Protocol):
    """Batches of packed rows in transit from a device to the host, in order."""

    rows: int  # the number of rows sent and not dropped yet

    def send(self, rows: Any) -> None:
        """Queue a copy of rows (states, bytes). After a MemoryError none of them is queued."""

    def oldest(self, *, wait: bool) -> NDArray[np.uint8] | None:
        """Return the first batch, in memory that is valid until it is dropped.

        Return None if there is no batch, or if it has not arrived yet and ``wait`` is false.
        """

    def drop_oldest(self) -> None:
        """Remove the first batch, after the caller has stored it."""


class Packer(Protocol):
    """Packs tensors of torch that differ in nothing but their numbers and where they are.

    ``place`` returns what is to be entered to pack: that of working_on() with ``exports=False``.
    It is None on the CPU, where nothing is. ``is_small``: whether all that is done there with a
    batch is too little for a second thread.
    """

    @property
    def place(self) -> Callable[[], Place] | None: ...

    @property
    def is_small(self) -> bool: ...

    def pack(self, address: int, owner: object) -> NativeArray:
        """Pack the numbers at an address into uint8 of shape (states, row bytes).

        ``owner`` keeps the numbers: threads of the host hold it while they read them. The rows may
        be in memory that this thread's next call overwrites. Raises MemoryError, and RuntimeError
        while a CUDA graph records the stream.
        """


class BackendOf(Protocol[NativeT]):
    """The functions of a backend, on arrays of its native type. All backends return equal bytes."""

    def working_on(
        self, tensor: Tensor, *, exports: bool = True, recorded: bool = False
    ) -> AbstractContextManager[None]:
        """Enter the tensor's device, and the stream and the memory that its framework uses there.

        ``exports``: whether the caller gets arrays that are made inside. ``recorded``: whether a
        CUDA graph may record what is done inside; if not, that is a RuntimeError.
        """

    def view(self, tensor: Tensor) -> NativeT:
        """Return the same memory as a native array of unsigned integers."""

    def to_host(self, array: Any) -> NDArray[Any]:
        """Return a native array as a NumPy array: the array itself, or a copy."""

    def namespace(self) -> object:
        """Return the library of the native arrays: an ArrayLibrary."""

    def rows_where(self, packed: Any, chosen: NDArray[np.bool_]) -> NativeT:
        """Return the rows that a mask in host memory selects."""

    def with_columns(self, packed: Any, columns: NDArray[np.uint8]) -> NativeT:
        """Return rows with bytes of the host behind them: (states, bytes) and (states, more)."""

    def compress(
        self, states: Tensor, layout: Layout, firing: FiringTest, *, scratch: bool = False
    ) -> NativeT:
        """Pack into uint8 of shape (states, row bytes).

        ``scratch``: the result may be in memory that this thread's next call overwrites.
        """

    def packer(self, states: Tensor, layout: Layout, firing: FiringTest) -> Packer | None:
        """Return what packs all tensors of torch like this one; None if nothing does."""

    def compress_by_function(
        self, states: Tensor, layout: Layout, function: FiringFunction
    ) -> NativeT:
        """Like compress(), but with a function of one number that Numba compiles."""

    def append_to_stage(self, packed: Any, inputs: int, labels: Any, stage: Any) -> None:
        """Append a batch of packed rows, at least one, to StageArrays on the same device.

        Whole, or if it does not fit, not at all: its rows are then counted as lost. Only the memory
        of the stage says which. ``inputs``: to how many inputs the rows belong, or UNKNOWN.
        ``labels``: None, or one for each input (int64).
        """

    def decompress(self, packed: Any, neurons: int) -> NativeT:
        """Unpack into bool of shape (states, neurons)."""

    def popcount(self, packed: Any) -> NativeT:
        """Count the firing neurons of each state: int32 of shape (states,)."""

    def firing_counts(self, packed: Any) -> NativeT:
        """Count the states in which each bit is set: int64 of shape (8 * bytes,)."""

    def cofiring(self, packed: Any) -> NativeT:
        """Count the states in which both of two bits are set: int64 (8 * bytes, 8 * bytes)."""

    def distances(self, one: Any, other: Any) -> NativeT:
        """Count the bits that differ, for each pair of rows: int32 (rows of one, of other)."""

    def sort(self, packed: Any) -> tuple[NativeT, NativeT]:
        """Return the bounds of the runs of equal rows, and the stable order of the rows.

        Both are int64, of shapes (distinct + 1,) and (states,). Rows compare as little-endian
        integers.
        """

    def count(self, packed: Any) -> tuple[NativeT, NativeT]:
        """Return the distinct rows in order (distinct, bytes), and their int64 counts."""

    def unique(self, packed: Any) -> tuple[NativeT, NativeT, NativeT]:
        """Return what count() does, and of each row the index of its distinct row: int64."""

    def isin(self, packed: Any, reference: Any) -> NativeT:
        """Return whether each row occurs in ``reference``: bool of shape (states,)."""

    def merge(self, parts: list[tuple[Any, Any]], row_bytes: int) -> tuple[NativeT, NativeT]:
        """Merge histograms, each in the form that count() returns, in linear time."""


Backend = BackendOf[NativeArray]


class HostBackend(BackendOf[NDArray[Any]], Protocol):
    """The backend whose arrays are NumPy's."""

    def transpose(self, packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """Return a row of bits for each neuron, of whole words: bit i is that of state i.

        Of shape (8 * bytes, ceil(states / 64)). Bits beyond the last state are 0.
        """

    def counter(self, row_bytes: int, budget: int | None = None) -> HostCounter:
        """Create an empty running count for rows of ``row_bytes`` bytes.

        ``budget``: the bytes up to which it is not full; it needs them all to count a batch.
        """

    def copy_rows(self, rows: NDArray[Any], target: NDArray[Any]) -> None:
        """Copy rows to others of the same shape and dtype, on several threads if they are large."""


class DeviceBackend(BackendOf[DeviceArray], Protocol):
    """A backend whose arrays are not in host memory."""

    def counter(self, row_bytes: int) -> DeviceCounter:
        """Create an empty running count for rows of ``row_bytes`` bytes, on the current device."""

    def transfer(self) -> Transfer:
        """Create a transfer of rows from the current device to the host."""
