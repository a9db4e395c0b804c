"""Small calls cost the Python code around the kernels: the functions that it calls are counted."""

import sys

import numpy as np
import pytest

from benchmarks.cpu.small_calls import LIMITS, cases, python_calls
from tensorstate_gpu._arrays.dlpack import address_of

CASES = cases()


@pytest.mark.parametrize("name", LIMITS)
def test_functions_called_for_one_row(name, monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)  # another test may have imported it
    assert python_calls(CASES[name][0]) <= LIMITS[name]


def test_calls_are_counted():
    def inner():
        return 1

    assert python_calls(lambda: [inner() for _ in range(3)]) >= 3


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4)[1:, ::-1],
        np.zeros((0, 3), np.uint8),
        np.array(1, np.int16),
        np.arange(6, dtype=">f4")[2:],
        np.frombuffer(b"8 bytes."),
    ],
    ids=["strided", "empty", "no axes", "swapped", "read-only"],
)
def test_addresses_of_arrays(array):
    assert address_of(array) == array.ctypes.data
