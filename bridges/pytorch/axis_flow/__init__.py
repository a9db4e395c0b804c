"""PyTorch: follows through one forward pass which axes hold neurons, and which model inputs."""

from . import sequences, sizes, weighted, writes  # noqa: F401 (they register their rules)
from .across_graphs import TracedAxes, traced_axes
from .branches import is_in_branch
from .graph_axes import axes_in_graph, mark_input_in_graph
from .known_axes import KnownAxes
from .mode import AxisFlow
from .noted_axes import IN_PARTS, LOST_AT, OF_WEIGHTS, ONE_NEURON

__all__ = [
    "IN_PARTS",
    "LOST_AT",
    "OF_WEIGHTS",
    "ONE_NEURON",
    "AxisFlow",
    "KnownAxes",
    "TracedAxes",
    "axes_in_graph",
    "is_in_branch",
    "mark_input_in_graph",
    "traced_axes",
]
