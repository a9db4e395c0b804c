"""PyTorch: follows through one forward pass which axes hold neurons, and which model inputs."""

from . import same_shape, sizes, views, weighted
from .mode import AxisFlow

__all__ = ["AxisFlow", "same_shape", "sizes", "views", "weighted"]
