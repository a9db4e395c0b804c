"""StoredRun: what a store and several stores have in common: layers by name, and their report."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from tensorstate_gpu import information
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.store.stored_rows import StoredRows

if TYPE_CHECKING:
    from tensorstate_gpu.reporting import Report

Layer = TypeVar("Layer", bound=StoredRows)


class StoredRun(Mapping[str, Layer]):
    """The layers of what is stored, by name, in the model's order: a mapping, as a Run is."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Names of the layers, in the model's order."""

    @property
    @abstractmethod
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""

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
        progress: ProgressCallback | None = None,
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
            progress=progress,
        )
