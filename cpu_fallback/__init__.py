"""The CPU backend: serial Numba kernels on an own thread pool. NumPy arrays in and out."""

from .count import Counter as counter
from .count import count
from .merge import merge
from .pack import compress
from .sort import sort
from .unpack import decompress, popcount

__all__ = ["compress", "count", "counter", "decompress", "merge", "popcount", "sort"]
