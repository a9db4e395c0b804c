"""WrittenLayer: what a run's writer and its commits need of the writer of one layer."""

from typing import Any, Protocol

from tensorstate_gpu._layers.ledger import Position
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.ledger_array import LedgerSnapshot


class Snapshot(Protocol):
    """A layer at one point in time, to be committed."""

    @property
    def ledger(self) -> LedgerSnapshot: ...

    def size(self) -> int:
        """Bytes of memory that the snapshot holds."""


class WrittenLayer(Protocol):
    """The writer of one layer: LayerWriter for rows, CountsWriter for counts."""

    name: str

    @property
    def instance_count(self) -> int:
        """Number of instances that are stored, as far as it is known."""

    @property
    def runs_always(self) -> bool:
        """Whether the layer runs in every pass of its model, as far as is known."""

    @property
    def instances_in_pass(self) -> int:
        """Number of instances since the last mark, also of those whose rows are in transit."""

    @property
    def stored_in_pass(self) -> int:
        """Number of instances that are stored, less those that there were at the last mark."""

    def drain(self) -> None:
        """Store all batches that are in transit from a device."""

    def mark_pass_end(self) -> None:
        """Remember the end of a forward pass, to which rewind_pass() returns."""

    def rewind_pass(self) -> None:
        """Discard what was added since the last mark. All jobs must be done."""

    def rewind(self, position: Position) -> None:
        """Discard what was added after a position. All jobs must be done."""

    def snapshot(self) -> Any:
        """Return the current state of the layer, for a commit."""

    def write_partial_chunks(self, snapshot: Any) -> None:
        """Write what is not written yet of a snapshot."""

    def commit_entry(self, snapshot: Any) -> LayerRecord:
        """Return the entry for the commit record, after all files were written."""

    def update_metadata(self, layer: LayerRecord) -> None:
        """Write what other zarr clients read, after a commit."""

    def delete_replaced(self) -> None:
        """Delete files that commits have replaced, and which readers might still have needed."""
