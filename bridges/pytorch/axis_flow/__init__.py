"""PyTorch: follows through one forward pass which axes hold neurons, and which model inputs."""

from . import sizes, weighted  # noqa: F401 (they register their rules)
from .graph_axes import axis_in_graph
from .known_axes import KnownAxes
from .mode import AxisFlow

__all__ = ["AxisFlow", "KnownAxes", "axis_in_graph"]
