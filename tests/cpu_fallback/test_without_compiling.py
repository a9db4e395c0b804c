"""NUMBA_DISABLE_JIT: what cannot work says so."""

import os
import subprocess
import sys

PROGRAM = """
import numpy as np
import tensorstate_gpu as ts

x, packed = np.ones((10, 5), np.float32), np.ones((10, 1), np.uint8)
assert ts.entropy([1, 1]) == 1
for use in (
    lambda: ts.compress_states(x),
    lambda: ts.compress_states(x, firing=lambda v: v > 0.5),
    lambda: ts.decompress_states(packed, 5),
    lambda: ts.count_states(packed, 5),
    lambda: ts.sort_states(packed, 10),
    lambda: ts.popcount(packed),
):
    try:
        use()
    except RuntimeError as error:
        assert "NUMBA_DISABLE_JIT is set" in str(error), error
    else:
        raise AssertionError("it works")
"""


def test_what_needs_compiled_code_says_so():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
