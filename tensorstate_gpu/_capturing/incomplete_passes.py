"""Takes back what layers have captured in a forward pass that an exception has ended."""

from collections.abc import Iterable
from typing import Protocol

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._layers.pass_starts import PassStarts


class Marked(Protocol):
    """What receives the batches of a layer: an Intake."""

    name: str

    def mark_pass_end(self) -> None:
        """Remember what there is at the end of a forward pass."""


class PassMarks:
    """Marks the ends of the forward passes of some layers. A store does that for its own layers."""

    def __init__(self) -> None:
        self._layers: list[Marked] = []
        self._starts = PassStarts()

    def add(self, layer: Marked) -> None:
        self._layers.append(layer)

    def before_batch(self, name: str) -> None:
        """Mark the end of a pass, if the next batch, of the layer ``name``, starts a new one."""
        if self._starts.begins_with(name, len(self._layers)):
            for layer in self._layers:
                layer.mark_pass_end()
