"""BatchSource: what the writer of a run asks those whose batches it stores."""

from typing import Protocol

from tensorstate_gpu._layers.broken_passes import PassClock


class BatchSource(Protocol):
    """The code that captures a layer: an Intake."""

    def wait_for_pending(self) -> None:
        """Wait for batches that a framework is still computing."""

    @property
    def clock(self) -> PassClock | None:
        """What knows of the passes of the model, if something does."""

    def in_pass(self) -> bool | None:
        """Return whether a pass of the model has begun and not ended, if that is known."""

    def passes_overlap(self) -> bool:
        """Return whether the last pass is known to have run beside another."""
