"""What stands behind a capture point: all rows in order, or running counts.

An accumulator is mutable inside and read as immutable StateCounts: merging an immutable histogram
for each batch would cost the distinct states each time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.labels import check_labels
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._process.interrupts import finished_before_interrupt
from tensorstate_gpu._states.packed import check_unused_bits
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.errors import LedgerError


class Accumulator(ABC):
    """Takes packed rows of ``neurons`` neurons as they come, and keeps the ledger of them."""

    def __init__(self, neurons: int) -> None:
        self.neurons = neurons
        self.row_bytes = row_bytes(neurons)
        # The last histogram: the ledger that it was counted by, the rows that had then, the counts.
        self._counted: tuple[Ledger, int, StateCounts] | None = None

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """What was captured, also what is still on its way from a device."""

    def append(
        self, packed: Any, instances: int, labels: Any = None, *, trusted: bool = False
    ) -> None:
        """Keep a batch; TypeError or ValueError, and nothing kept, when its parts do not fit.

        ``packed``: uint8 (states, bytes), a native array of any backend.
        ``trusted``: bits beyond the neurons, which our own packing never sets, are not looked for.
        """
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != self.row_bytes:
            raise ValueError(
                f"packed must be uint8 of shape (states, {self.row_bytes}), "
                f"got {packed.dtype} of shape {packed.shape}"
            )
        if not trusted:
            check_unused_bits(packed, self.neurons)
        if instances < 0 or (len(packed) % instances if instances else len(packed)):
            raise ValueError(f"{len(packed)} rows do not divide into {instances} instances")
        array = None if labels is None else check_labels(labels, instances)
        with finished_before_interrupt():
            if instances:
                self._keep(packed, instances, array)

    def histogram(self) -> StateCounts:
        """All rows so far, counted."""
        if self._counted is not None:
            ledger, rows, counts = self._counted
            if ledger is self.ledger and rows == ledger.rows:
                return counts
        counts = self._count()
        if counts.total != self.ledger.rows:
            raise LedgerError(f"{self.ledger.rows} rows were captured, {counts.total} counted")
        self._counted = self.ledger, self.ledger.rows, counts
        return counts

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows really kept, counted apart from the ledger."""

    @abstractmethod
    def _keep(self, packed: Any, instances: int, labels: NDArray[Any] | None) -> None:
        """Keep the rows of one instance or more, and enter them; ``labels``: one for each."""

    @abstractmethod
    def _count(self) -> StateCounts: ...

    @abstractmethod
    def histogram_of(self, index: Any) -> StateCounts:
        """The rows of some instances, counted; ValueError where rows are not kept."""

    @abstractmethod
    def by_label(self, labels: Any = None) -> dict[Any, StateCounts]:
        """One histogram per label, in order; by default for the labels given with the rows."""

    @abstractmethod
    def chunks(self) -> Iterator[Rows]:
        """All rows, in order, in pieces; ValueError where rows are not kept."""

    @abstractmethod
    def receive(self, *, wait: bool) -> None:
        """Keep the batches that have come from a device; or wait for all that were sent."""

    @abstractmethod
    def discard(self) -> None:
        """Forget what is still under way: all rows are deleted."""
