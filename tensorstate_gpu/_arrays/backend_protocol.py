"""The protocols of backends: what a device offers to pack, count and sort states."""

from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest

# The arrays that a backend returns; those that it takes are Any here, and are of the same type.
NativeT = TypeVar("NativeT", bound=NativeArray, covariant=True)


class _RunningCounts(Protocol):
    """Running counts of packed states: mutable, exact, in memory bounded by the distinct ones."""

    @property
    def total(self) -> int:
        """Rows added so far."""

    def add(self, packed: Any, weights: Any = None) -> None:
        """Count the rows of ``packed`` (states, bytes), each ``weights`` times (default once)."""


class Counter(_RunningCounts, Protocol):
    """Running counts whose result is in the host's memory."""

    def result(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Distinct rows in order (distinct, bytes), and their int64 counts."""


class DeviceCounter(_RunningCounts, Protocol):
    """Counts on a device that may run out of memory: then add() raises, and counts no row."""

    def result(self) -> tuple[DeviceArray, DeviceArray]:
        """Distinct rows in order (distinct, bytes), and their int64 counts."""

    def drain(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Distinct rows in no order and their counts, in the host's memory; then there are none."""


class Transfer(Protocol):
    """Batches of packed rows on their way from a device to the host, in order."""

    rows: int  # sent, and not dropped yet

    def send(self, rows: Any) -> None:
        """Queue the copying of rows (states, bytes); MemoryError keeps none of them."""

    def oldest(self, *, wait: bool) -> NDArray[np.uint8] | None:
        """The first batch, in memory that is valid until it is dropped; None where there is none,
        or where it has not come yet and need not be waited for."""

    def drop_oldest(self) -> None:
        """Forget the first batch: it is kept elsewhere."""


class BackendOf(Protocol[NativeT]):
    """What a backend offers; arrays are of its own native type. All return the same bytes."""

    def working_on(self, tensor: Tensor) -> AbstractContextManager[None]:
        """Inside, work goes to the tensor's device, on the stream that its framework uses there."""

    def view(self, tensor: Tensor) -> NativeT:
        """The same memory as a native array of unsigned integers."""

    def to_host(self, array: Any) -> NDArray[Any]:
        """A native array as a NumPy array: itself, or a copy."""

    def rows_where(self, packed: Any, chosen: NDArray[np.bool_]) -> NativeT:
        """The rows that a mask of the host chooses."""

    def compress(
        self, states: Tensor, layout: Layout, firing: FiringTest, *, scratch: bool = False
    ) -> NativeT:
        """Pack: uint8 of shape (states, row bytes).

        ``scratch``: the result may lie in memory that this thread's next call overwrites.
        """

    def compress_by_function(
        self, states: Tensor, layout: Layout, function: FiringFunction
    ) -> NativeT:
        """As compress, by a function of one number that Numba compiles."""

    def decompress(self, packed: Any, neurons: int) -> NativeT:
        """Unpack: bool of shape (states, neurons)."""

    def popcount(self, packed: Any) -> NativeT:
        """Firing neurons per state: int32 of shape (states,)."""

    def sort(self, packed: Any) -> tuple[NativeT, NativeT]:
        """Where runs of equal rows begin, and their end; and the stable order of the rows.

        Both int64: (distinct + 1,) and (states,). The order is that of little-endian integers.
        """

    def count(self, packed: Any) -> tuple[NativeT, NativeT]:
        """Distinct rows in order (distinct, bytes), and their int64 counts."""

    def merge(self, parts: list[tuple[Any, Any]], row_bytes: int) -> tuple[NativeT, NativeT]:
        """The counts of all parts together, each as count() gives it, in linear time."""


Backend = BackendOf[NativeArray]


class HostBackend(BackendOf[NDArray[Any]], Protocol):
    """The backend whose arrays are NumPy's."""

    def counter(self, row_bytes: int) -> Counter:
        """An empty running count for rows of ``row_bytes`` bytes."""


class DeviceBackend(BackendOf[DeviceArray], Protocol):
    """A backend whose arrays do not lie in the host's memory."""

    def counter(self, row_bytes: int) -> DeviceCounter:
        """An empty running count for rows of ``row_bytes`` bytes, on the current device."""

    def transfer(self) -> Transfer:
        """A way to the host for rows of the current device."""
