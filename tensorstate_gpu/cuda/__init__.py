"""The CUDA backend: kernels/*.cu and their launches. Counterpart of cpu_fallback."""

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._arrays.layout import Layout

from .bits import distances
from .count import Counter as counter
from .count import count
from .device import library as namespace
from .device import rows_where, to_host, view, with_columns, working_on
from .merge import merge
from .neurons import cofiring, firing_counts
from .pack import compress
from .packer import packer
from .row_sets import isin, unique
from .sort import sort
from .stage import append_to_stage
from .transfer import Transfer as transfer
from .unpack import decompress, popcount

__all__ = [
    "append_to_stage",
    "cofiring",
    "compress",
    "compress_by_function",
    "count",
    "counter",
    "decompress",
    "distances",
    "firing_counts",
    "isin",
    "merge",
    "namespace",
    "packer",
    "popcount",
    "rows_where",
    "sort",
    "to_host",
    "transfer",
    "unique",
    "view",
    "with_columns",
    "working_on",
]


def compress_by_function(states: Tensor, layout: Layout, function: FiringFunction) -> DeviceArray:
    """Like compress(), with a function that Numba-CUDA compiles; only this imports Numba-CUDA."""
    from . import pack_by_function

    return pack_by_function.compress_by_function(states, layout, function)
