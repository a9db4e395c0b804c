"""Bridge: the functions that a framework's bridge implements.

A bridge is a module. The type checker compares those that `tensorstate_gpu.bridges` lists with this
protocol.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.sampling import Sampler, Switch

Chosen = Sequence[tuple[str, Any]]  # names of layers, and the layers


class Bridge(Protocol):
    """The functions of a bridge. Layers and models are those of its framework."""

    @property
    def METHODS(self) -> Mapping[str, tuple[str, ...]]:
        """The places at a layer for each method: "before", "after" and "both"."""

    def layers(self, model: Any) -> list[tuple[str, Any]]:
        """Return the layers that can be captured, with their names, in the model's order."""

    def all_layers(self, model: Any) -> list[tuple[str, Any]]:
        """Return the layers that ``"*"`` stands for: not those that are parts of a layer's work."""

    def itself(self, model: Any) -> tuple[str, Any]:
        """Return the model as a layer that can be chosen, with its name."""

    def inside(self, pattern: Any) -> Any:
        """Return the layer in a wrapper that has no name of its own; anything else itself."""

    def has_kernel(self, layer: Any) -> bool:
        """Return whether a layer has weights of two or more axes: it is captured by default."""

    def places(self, layer: Any, method: str) -> tuple[str, ...]:
        """Return the places at a layer for a method: not before one that is given indices."""

    def neurons(self, layer: Any, place: str) -> int | None:
        """Return the number of neurons at a place of a layer, if its definition tells."""

    def class_names(self, layer: Any) -> tuple[str, ...]:
        """Return the class names that ``attach_to`` matches for a layer."""

    def point_name(self, layer: str, place: str) -> str:
        """Return the name of the capture point at a place, one of those in METHODS."""

    def check_attachable(self, model: Any) -> None:
        """Raise NotCapturable if the model cannot be captured in its current form."""

    def attach(
        self,
        model: Any,
        chosen: Chosen,
        method: str,
        options: CaptureOptions,
        existing: Collection[str] = (),
    ) -> tuple[Any, Sequence[CapturePoint]]:
        """Attach capture points, all or none, to the model itself or to a new one.

        Returns that model and the points. A new model shares the weights. ``existing``: names of
        capture points that the model already has and keeps.
        """

    def attach_in_place(
        self,
        model: Any,
        chosen: Chosen,
        method: str,
        options: CaptureOptions,
        existing: Collection[str] = (),
    ) -> Sequence[CapturePoint]:
        """Like attach(), but always to the model itself."""

    def attach_switched(
        self,
        model: Any,
        chosen: Chosen,
        method: str,
        options: CaptureOptions,
        sampler: Sampler,
    ) -> Switch:
        """Like attach_in_place(), for a sampler; the points leave the model until it needs them.

        Raises NotCapturable if the framework has no such points.
        """

    def detach(self, points: Iterable[CapturePoint]) -> None:
        """Detach these capture points. What they have captured stays."""

    def without(self, model: Any, points: Sequence[CapturePoint]) -> Any:
        """Return a new model without these capture points; the model itself if it has none."""

    def remove(self, model: Any, points: Sequence[CapturePoint]) -> Any:
        """Return the model without these capture points: itself, or a new one."""
