"""Tables of measures, of layers and of the network, and figures of them.

Each ``plot_`` function takes ``ax=``, matplotlib Axes to draw into, by default those of a new
figure; it returns the Axes, and raises ImportError if matplotlib is not installed.
"""

from tensorstate_gpu.reporting.architecture import Drawing, draw_architecture
from tensorstate_gpu.reporting.figures import (
    plot_class_divergences,
    plot_confusion_matrix,
    plot_correlations,
    plot_discovery,
    plot_efficiency,
    plot_errors,
    plot_firing_map,
    plot_firing_rates,
    plot_outputs,
    plot_rank_frequency,
    plot_training,
    plot_weights,
)
from tensorstate_gpu.reporting.label_table import LabelTable
from tensorstate_gpu.reporting.layer_report import LayerReport
from tensorstate_gpu.reporting.layer_tables import (
    correlations_to_arrow,
    correlations_to_pandas,
    divergences_to_arrow,
    divergences_to_pandas,
    firing_map_to_arrow,
    firing_map_to_pandas,
)
from tensorstate_gpu.reporting.network_report import report
from tensorstate_gpu.reporting.report_table import Report
from tensorstate_gpu.reporting.training_table import training_to_arrow, training_to_pandas

__all__ = [
    "Drawing",
    "LabelTable",
    "LayerReport",
    "Report",
    "correlations_to_arrow",
    "correlations_to_pandas",
    "divergences_to_arrow",
    "divergences_to_pandas",
    "draw_architecture",
    "firing_map_to_arrow",
    "firing_map_to_pandas",
    "plot_class_divergences",
    "plot_confusion_matrix",
    "plot_correlations",
    "plot_discovery",
    "plot_efficiency",
    "plot_errors",
    "plot_firing_map",
    "plot_firing_rates",
    "plot_outputs",
    "plot_rank_frequency",
    "plot_training",
    "plot_weights",
    "report",
    "training_to_arrow",
    "training_to_pandas",
]


def __dir__() -> list[str]:
    """For completion in editors and notebooks: without the modules inside."""
    return __all__
