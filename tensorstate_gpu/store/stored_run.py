"""StoredRun: what a store and several stores have in common: their layers, by name."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TypeVar

from tensorstate_gpu.reporting.measured_network import MeasuredNetwork
from tensorstate_gpu.store.stored_rows import StoredRows

Layer = TypeVar("Layer", bound=StoredRows)


class StoredRun(MeasuredNetwork[Layer]):
    """The layers of what is stored, by name, in the model's order: a mapping, as a Run is."""

    _listed = "closed info names verify"

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of the layers, in the model's order."""

    @abstractmethod
    def __getitem__(self, name: str | int) -> Layer: ...

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def efficiency_layers(self) -> list[Layer]:
        """The layers, in the model's order. They have the same measures as capture points."""
        return [self[name] for name in self.names]
