"""NumPy sorts words where it does that with fast vector instructions."""

import os
import subprocess
import sys

from numpy._core._multiarray_umath import __cpu_dispatch__ as DISPATCHED

from tensorstate_gpu.cpu_fallback import numpy_sort

PROGRAM = "from tensorstate_gpu.cpu_fallback import numpy_sort; print(numpy_sort.is_fast())"


def test_a_sort_without_vector_instructions_is_not_fast():
    without = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(DISPATCHED)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=without, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


def test_it_is_tried_once(monkeypatch):
    answer = numpy_sort.is_fast()
    monkeypatch.setattr(numpy_sort, "_time", None)
    assert numpy_sort.is_fast() is answer
