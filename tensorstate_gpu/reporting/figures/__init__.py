"""Figures of reports by matplotlib: functions of a report, or its tidy tables, that return Axes."""

from tensorstate_gpu.reporting.figures.class_figure import plot_class_divergences
from tensorstate_gpu.reporting.figures.efficiency_figure import plot_efficiency
from tensorstate_gpu.reporting.figures.firing_map import plot_firing_map
from tensorstate_gpu.reporting.figures.network_pictures import (
    plot_confusion_matrix,
    plot_errors,
    plot_outputs,
    plot_weights,
)
from tensorstate_gpu.reporting.figures.neuron_figures import plot_correlations, plot_firing_rates
from tensorstate_gpu.reporting.figures.state_figures import plot_discovery, plot_rank_frequency
from tensorstate_gpu.reporting.figures.training_figure import plot_training

__all__ = [
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
]
