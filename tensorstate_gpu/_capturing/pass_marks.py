"""PassMarks: marks where the forward passes of layers end, and takes a broken pass back."""

from typing import Protocol

from tensorstate_gpu._layers.broken_passes import PassClock, PassStarts


class MarkedLayer(Protocol):
    """What receives the batches of a layer: an Intake."""

    name: str

    @property
    def clock(self) -> PassClock | None:
        """What knows of the passes of the model, if something does."""

    def progress(self) -> tuple[int, bool]:
        """Return the instances since the last mark, and whether the layer runs in every pass."""

    def in_pass(self) -> bool | None:
        """Return whether a pass of the model has begun and not ended, if that is known."""

    def passes_overlap(self) -> bool:
        """Return whether the last pass is known to have run beside another."""

    def mark_pass_end(self) -> None:
        """Remember what there is at the end of a forward pass."""

    def rewind_pass(self) -> None:
        """Discard what was added since the last mark."""

    def release_pass(self) -> None:
        """Mark no further passes."""


class PassMarks:
    """The layers of a run in memory. A store does the same for the layers that it keeps."""

    def __init__(self) -> None:
        self._layers: list[MarkedLayer] = []
        self._starts = PassStarts()

    def add(self, layer: MarkedLayer) -> None:
        """Mark the passes of one more layer."""
        self._layers.append(layer)
        self._starts.clock = layer.clock or self._starts.clock

    def before_batch(self, name: str) -> None:
        """Mark the end of a pass, if the next batch, of the layer ``name``, starts a new one."""
        if self._starts.begins_with(name, len(self._layers)):
            for layer in self._layers:
                layer.mark_pass_end()

    def discard_broken_pass(self) -> bool:
        """Discard the batches of a pass that an exception ended. Return whether there were any.

        None are discarded if it ran beside another, whose batches are among those since the mark.
        """
        layers = self._layers
        broken = not any(layer.passes_overlap() for layer in layers) and self._starts.are_broken(
            [layer.progress() for layer in layers], [layer.in_pass() for layer in layers]
        )
        for layer in layers if broken else ():
            layer.rewind_pass()
        return broken

    def release(self) -> None:
        """Mark no further passes."""
        for layer in self._layers:
            layer.release_pass()
