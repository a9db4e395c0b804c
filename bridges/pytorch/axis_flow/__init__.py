"""PyTorch: follows through one forward pass which axes hold neurons, and which model inputs."""

from . import sequences, sizes, weighted  # noqa: F401 (they register their rules)
from .mode import AxisFlow

__all__ = ["AxisFlow"]
