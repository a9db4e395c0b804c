"""StoredRun: what a store and several stores have in common: layers by name, and their report."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from tensorstate_gpu import information
from tensorstate_gpu.store.stored_rows import StoredRows

if TYPE_CHECKING:
    from tensorstate_gpu.reporting import Report

Layer = TypeVar("Layer", bound=StoredRows)


class StoredRun(ABC, Generic[Layer]):
    """The layers of what is stored, by name, in the model's order."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of the layers, in the model's order."""

    @property
    @abstractmethod
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""

    @abstractmethod
    def __getitem__(self, name: str) -> Layer: ...

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def efficiency_layers(self) -> list[Layer]:
        """The layers, in the model's order. They have the same measures as capture points."""
        return [self[name] for name in self.names]

    def network_efficiency(self) -> float:
        """Geometric mean of the layers' efficiencies."""
        return information.network_efficiency(self)

    def report(
        self,
        accuracy: float | None = None,
        beta: float = 2,
        *,
        by_label: bool = False,
        divergences: bool = False,
        include_out_of_step: bool = False,
    ) -> "Report":
        """Return the table of measures; see tensorstate_gpu.report."""
        from tensorstate_gpu.reporting import report

        return report(
            self,
            accuracy,
            beta,
            by_label=by_label,
            divergences=divergences,
            include_out_of_step=include_out_of_step,
        )
