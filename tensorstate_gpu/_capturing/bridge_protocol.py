"""Bridge: what a framework's bridge offers to attach capture points to its models.

A bridge is a module with these functions; `tensorstate_gpu.bridges` lists those there are, each
checked against this protocol by the type checker.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions

Chosen = Sequence[tuple[str, Any]]  # names and layers


class Handle(Protocol):
    """What is to be taken away again."""

    def remove(self) -> object: ...


class Bridge(Protocol):
    """The functions of a bridge. Layers and models are those of its framework."""

    @property
    def METHODS(self) -> Mapping[str, tuple[str, ...]]:
        """The places at a layer, by the name of a method: "before", "after", "both"."""

    def layers(self, model: Any) -> list[tuple[str, Any]]:
        """Names and layers that capture points can be attached to, in the model's order."""

    def class_names(self, layer: Any) -> tuple[str, ...]:
        """What the class of a layer is called."""

    def check_attachable(self, model: Any) -> None:
        """NotCapturable for a model that cannot be captured as it is."""

    def attach(
        self,
        model: Any,
        chosen: Chosen,
        method: str,
        options: CaptureOptions,
        there: Collection[str] = (),
    ) -> tuple[Any, Sequence[CapturePoint]]:
        """A model with capture points, all or none: itself, or a new one that shares its weights.

        ``there``: names of capture points that the model has already, and keeps.
        """

    def attach_in_place(
        self,
        model: Any,
        chosen: Chosen,
        method: str,
        options: CaptureOptions,
        there: Collection[str] = (),
    ) -> Sequence[CapturePoint]:
        """As attach(), to the very model."""

    def detach(self, points: Iterable[CapturePoint]) -> None:
        """Take exactly these capture points off; what they captured stays."""

    def remove(self, model: Any, points: Sequence[CapturePoint]) -> Any:
        """The model without these capture points: itself, or a new one."""

    def call_after_forward(self, model: Any, function: Callable[[], object]) -> Handle:
        """Call a function after each forward pass, also a failed one."""
