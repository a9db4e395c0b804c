"""MeasuredNetwork: layers by name, and the measures of all of them together."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TypeVar

from tensorstate_gpu import information
from tensorstate_gpu._listed_names import ListedNames
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.reporting.network_report import report
from tensorstate_gpu.reporting.report_table import Report

LayerT = TypeVar("LayerT")


class MeasuredNetwork(ListedNames, Mapping[str, LayerT]):
    """The layers of a network by name, in the model's order, and the measures of the network."""

    _listed = "efficiency_layers get items keys network_efficiency report values"

    # Two are equal if they are the same: comparing states is slow, and better said in words.
    __eq__, __hash__ = object.__eq__, object.__hash__

    @property
    @abstractmethod
    def efficiency_layers(self) -> list[LayerT]:
        """The layers, in the model's order."""

    @property
    @abstractmethod
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""

    def network_efficiency(self) -> float:
        """Return the geometric mean of the layers' efficiencies.

        Of all that have rows. report() leaves out those that have seen other inputs than most.
        """
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
    ) -> Report:
        """Return the table of measures; see tensorstate_gpu.report."""
        return report(
            self,
            accuracy,
            beta,
            by_label=by_label,
            divergences=divergences,
            include_out_of_step=include_out_of_step,
            progress=progress,
        )
