"""The CUDA backend: kernels/*.cu and what launches them. Twin of tensorstate_gpu.cpu_fallback."""

from .count import Counter as counter
from .count import count, merge
from .device import export, to_host, view, working_on
from .pack import compress
from .sort import sort
from .unpack import decompress, popcount

__all__ = [
    "compress",
    "count",
    "counter",
    "decompress",
    "export",
    "merge",
    "popcount",
    "sort",
    "to_host",
    "view",
    "working_on",
]
