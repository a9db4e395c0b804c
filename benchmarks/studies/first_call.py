"""What first calls take with an empty cache: ``python -m benchmarks.studies.first_call``.

For each function: all of its compiling, and the one kernel that took longest (within it are the
kernels that it calls first), in seconds of the processor: other programs change them little.
"""

import tempfile
import time
from typing import Any

import numba
import numpy as np

numba.config.CACHE_DIR = tempfile.mkdtemp()

from numba.core import event  # noqa: E402

import tensorstate_gpu as ts  # noqa: E402


class Compiling(event.Listener):
    """Notes the kernels compiled from Python, and for how long."""

    def __init__(self) -> None:
        self._started: list[float] = []
        self.kernels: list[tuple[float, str]] = []

    def on_start(self, event: Any) -> None:
        self._started.append(time.process_time())

    def on_end(self, event: Any) -> None:
        seconds = time.process_time() - self._started.pop()
        if not self._started:
            self.kernels.append((seconds, event.data["dispatcher"].py_func.__name__))


def first_calls() -> dict[str, Any]:
    """Name -> a call; of those that compile the same kernel only the first pays."""
    rows, images = np.ones((9, 20), np.float32), np.ones((2, 70, 5, 5), np.float32)
    rng = np.random.default_rng(0)
    narrow = rng.integers(0, 256, (60_000, 8), dtype=np.uint8)
    wide = rng.integers(0, 256, (60_000, 16), dtype=np.uint8)
    one, other = (ts.StateCounts(np.array([[i]], np.uint8), [1], 8) for i in range(2))
    return {
        "compress_states, 20 neurons, float32": lambda: ts.compress_states(rows),
        "the same, float16": lambda: ts.compress_states(rows.astype(np.float16)),
        "NCHW": lambda: ts.compress_states(images, neuron_axis=1),
        "decompress_states": lambda: ts.decompress_states(narrow[:9], 64),
        "popcount": lambda: ts.popcount(narrow[:9]),
        "count_states, 8 bytes, few": lambda: ts.count_states(narrow[:9]),
        "count_states, 8 bytes, all distinct": lambda: ts.count_states(narrow),
        "count_states, 16 bytes, few": lambda: ts.count_states(wide[:9]),
        "count_states, 16 bytes, all distinct": lambda: ts.count_states(wide),
        "sort_states": lambda: ts.sort_states(narrow),
        "adding two StateCounts": lambda: one + other,
    }


if __name__ == "__main__":
    print("| first call of | compiling | longest kernel |\n|---|---|---|")
    for name, call in first_calls().items():
        listener = Compiling()
        with event.install_listener("numba:compile", listener):
            call()
        total = sum(seconds for seconds, _ in listener.kernels)
        longest = max(listener.kernels, default=(0.0, "none"))
        print(f"| {name} | {total:.1f} s | {longest[0]:.1f} s, `{longest[1]}` |", flush=True)
