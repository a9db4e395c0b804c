"""Where a process has one processor, XLA has one thread, which runs the compiled function."""

import os
import subprocess
import sys

import pytest

# 13,000 rows of 8 bytes: JAX copies arrays of 100 KiB and more in a thread of XLA. One tap of an
# argument is not enough for a hang: the copy may be done before it is waited for.
PROGRAM = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before XLA makes its threads
import jax, numpy as np
import tensorstate_gpu as ts
run, x = ts.Run(), np.random.default_rng(0).standard_normal((13_000, 64), "float32")
@jax.jit
def network(x):
    for layer in range(3):
        x = ts.tap(jax.numpy.tanh(x), f"x{layer}", run)
    return x.sum()
for _ in range(5):
    network(x)
np.testing.assert_array_equal(run["x0"].raw_states, np.tile(ts.compress_states(x), (5, 1)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets one choose")
def test_large_layers_are_recorded_there():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, timeout=600)
