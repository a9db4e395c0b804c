"""The Backend protocol, and which backend serves a device."""

from contextlib import AbstractContextManager
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, cast

from tensorstate_gpu._dlpack import CPU, CUDA, Tensor
from tensorstate_gpu._firing import Firing
from tensorstate_gpu._layout import Layout


class Counter(Protocol):
    """Running counts of packed states: mutable, exact, in memory bounded by the distinct ones."""

    @property
    def total(self) -> int:
        """Rows added so far."""

    def add(self, packed: Any, weights: Any = None) -> None:
        """Count the rows of ``packed`` (states, bytes), each ``weights`` times (default once)."""

    def result(self) -> tuple[Any, Any]:
        """Distinct rows in order (distinct, bytes), and their int64 counts."""


class Backend(Protocol):
    """What a backend offers; arrays are of its own native type. All return the same bytes."""

    def working_on(self, tensor: Tensor) -> AbstractContextManager[None]:
        """Inside, work goes to the tensor's device, on the stream that its framework uses there."""

    def view(self, tensor: Tensor) -> Any:
        """The same memory as a native array of unsigned integers."""

    def to_host(self, array: Any) -> Any:
        """A native array as a NumPy array: itself, or a copy."""

    def compress(
        self, states: Tensor, layout: Layout, firing: Firing, *, scratch: bool = False
    ) -> Any:
        """Pack: uint8 of shape (states, row bytes).

        ``scratch``: the result may lie in memory that this thread's next call overwrites.
        """

    def decompress(self, packed: Any, neurons: int) -> Any:
        """Unpack: bool of shape (states, neurons)."""

    def popcount(self, packed: Any) -> Any:
        """Firing neurons per state: int32 of shape (states,)."""

    def sort(self, packed: Any) -> tuple[Any, Any]:
        """Where runs of equal rows begin, and their end; and the stable order of the rows.

        Both int64: (distinct + 1,) and (states,). The order is that of little-endian integers.
        """

    def count(self, packed: Any) -> tuple[Any, Any]:
        """Distinct rows in order (distinct, bytes), and their int64 counts."""

    def merge(self, parts: list[tuple[Any, Any]], row_bytes: int) -> tuple[Any, Any]:
        """The counts of all parts together, each as count() gives it, in linear time."""

    def counter(self, row_bytes: int) -> Counter:
        """An empty running count for rows of ``row_bytes`` bytes."""


@lru_cache
def backend_for(device: tuple[int, int], name: str) -> Backend:
    """The backend for a DLPack device; TypeError where there is none."""
    if device[0] == CPU:
        return cast(Backend, import_module("tensorstate_gpu.cpu_fallback"))
    if device[0] == CUDA:
        return cast(Backend, import_module("tensorstate_gpu.cuda"))
    raise TypeError(
        f"states live on {name}; this version computes on the cpu and on cuda. Move them with "
        ".cpu() first"
    )
