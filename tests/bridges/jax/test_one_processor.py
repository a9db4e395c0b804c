"""Where a process has one processor, XLA has one thread, which runs the compiled function."""

import os
import subprocess
import sys

import pytest

# 20,000 rows of 8 bytes: JAX copies arrays of 100 KiB and more in a thread of XLA.
PROGRAM = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before XLA makes its threads
import jax, numpy as np
import tensorstate_gpu as ts
run, x = ts.Run(), np.random.default_rng(0).standard_normal((20_000, 64), "float32")
jax.jit(lambda x: ts.tap(x, "x", run))(x)
np.testing.assert_array_equal(run["x"].raw_states, ts.compress_states(x))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets one choose")
def test_large_layers_are_recorded_there():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=600)
