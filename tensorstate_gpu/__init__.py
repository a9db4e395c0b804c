"""See how a neural network uses its neurons: capture, pack, count and measure layer states.

Importing this package loads only NumPy. Each public name is imported when it is first used (PEP
562), and no framework is imported that the program does not use.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from opcode import opmap
from types import FrameType
from typing import TYPE_CHECKING, Any

from tensorstate_gpu._arrays.frameworks import (
    PUBLIC_NAMES,
    is_installed,
    names_without_framework,
)
from tensorstate_gpu._states import keeping
from tensorstate_gpu._version import __version__

if TYPE_CHECKING:
    from tensorstate_gpu import (
        bits,
        errors,
        information,
        neurons,
        reporting,
        store,
        testing,
        training,
    )
    from tensorstate_gpu._capturing.attaching import (
        build_efficiency_model,
        remove_state_layers,
        reset_efficiency_model,
    )
    from tensorstate_gpu._capturing.capture_block import capture
    from tensorstate_gpu._capturing.capture_point import AbstractStateCapture, CapturePoint
    from tensorstate_gpu._capturing.rank_run import RankRun
    from tensorstate_gpu._capturing.run import Run
    from tensorstate_gpu._process.memory_limit import get_memory_limit, set_memory_limit
    from tensorstate_gpu._process.num_threads import get_num_threads, set_num_threads
    from tensorstate_gpu._states.bits import popcount
    from tensorstate_gpu._states.grouped_counts import GroupedCounts
    from tensorstate_gpu._states.packing import compress_states, decompress_states
    from tensorstate_gpu._states.sort_and_count import count_states, sort_states
    from tensorstate_gpu._states.state_counts import RankCounts, StateCounts, merge
    from tensorstate_gpu._states.stored_counts import StoredCounts
    from tensorstate_gpu._states.stored_groups import StoredGroups
    from tensorstate_gpu.bridges.dask_arrays import count_stores
    from tensorstate_gpu.bridges.jax_counts import PaddedCounts
    from tensorstate_gpu.bridges.jax_tap import tap
    from tensorstate_gpu.bridges.keras3.layers import StateCapture
    from tensorstate_gpu.bridges.pytorch.hooks import StateCaptureHook
    from tensorstate_gpu.information import aIQ, entropy, network_efficiency
    from tensorstate_gpu.reporting import report
    from tensorstate_gpu.store import (
        Store,
        count_part,
        merge_counts,
        merge_range,
        open_stores,
    )
    from tensorstate_gpu.training import StateMonitor

# No submodule has the name of a public function: importing it would replace the function.
_PACKAGES = (
    *("bits", "errors", "information", "neurons", "reporting", "store", "testing", "training"),
)
_PUBLIC_NAME_MODULES = PUBLIC_NAMES | {
    "AbstractStateCapture": "_capturing.capture_point",
    "CapturePoint": "_capturing.capture_point",
    "GroupedCounts": "_states.grouped_counts",
    "RankCounts": "_states.state_counts",
    "RankRun": "_capturing.rank_run",
    "Run": "_capturing.run",
    "StateCounts": "_states.state_counts",
    "StateMonitor": "training",
    "Store": "store",
    "StoredCounts": "_states.stored_counts",
    "StoredGroups": "_states.stored_groups",
    "aIQ": "information",
    "build_efficiency_model": "_capturing.attaching",
    "capture": "_capturing.capture_block",
    "compress_states": "_states.packing",
    "count_part": "store",
    "count_states": "_states.sort_and_count",
    "decompress_states": "_states.packing",
    "entropy": "information",
    "get_memory_limit": "_process.memory_limit",
    "get_num_threads": "_process.num_threads",
    "merge": "_states.state_counts",
    "merge_counts": "store",
    "merge_range": "store",
    "network_efficiency": "information",
    "open_stores": "store",
    "popcount": "_states.bits",
    "remove_state_layers": "_capturing.attaching",
    "report": "reporting",
    "reset_efficiency_model": "_capturing.attaching",
    "set_memory_limit": "_process.memory_limit",
    "set_num_threads": "_process.num_threads",
    "sort_states": "_states.sort_and_count",
}

__all__ = [
    "AbstractStateCapture",
    "CapturePoint",
    "GroupedCounts",
    "PaddedCounts",
    "RankCounts",
    "RankRun",
    "Run",
    "StateCapture",
    "StateCaptureHook",
    "StateCounts",
    "StateMonitor",
    "Store",
    "StoredCounts",
    "StoredGroups",
    "__version__",
    "aIQ",
    "bits",
    "build_efficiency_model",
    "capture",
    "compress_states",
    "count_part",
    "count_states",
    "count_stores",
    "decompress_states",
    "entropy",
    "errors",
    "get_memory_limit",
    "get_num_threads",
    "information",
    "merge",
    "merge_counts",
    "merge_range",
    "network_efficiency",
    "neurons",
    "open_stores",
    "popcount",
    "remove_state_layers",
    "report",
    "reporting",
    "reset_efficiency_model",
    "set_memory_limit",
    "set_num_threads",
    "sort_states",
    "store",
    "tap",
    "testing",
    "training",
]
# help() and `from tensorstate_gpu import *` read each name that is listed.
for _name in names_without_framework():
    __all__.remove(_name)
if not is_installed("hypothesis"):
    __all__.remove("testing")


if find_spec(f"{__name__}.cpu_fallback") is None:
    # An installation has it inside this folder; the source tree has it next to this folder.
    raise ImportError(
        f"tensorstate_gpu was imported from {__path__[0]}, a folder of its source that is no "
        "installation: run Python from another folder, or install the source with "
        "'pip install --editable .'"
    )

keeping.keep_in(lambda: import_module(f"{__name__}.store.kept_counts"))


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC_NAME_MODULES and name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        if name in _PACKAGES:
            return import_module(f"{__name__}.{name}")
        value = getattr(import_module(f"{__name__}.{_PUBLIC_NAME_MODULES[name]}"), name)
    except ImportError as error:
        if name not in {*PUBLIC_NAMES, "testing"} or _in_from_import(sys._getframe(1)):
            raise
        raise AttributeError(str(error), name=name) from error  # so that hasattr() is False
    globals()[name] = value
    return value


def _in_from_import(frame: FrameType) -> bool:
    """Return whether a frame is at ``from tensorstate_gpu import name``.

    Python replaces an AttributeError there by an ImportError without its text.
    """
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


def __dir__() -> list[str]:
    return __all__
