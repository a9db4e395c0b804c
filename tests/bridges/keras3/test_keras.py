"""The cases, once for each backend of Keras, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = (
    *("modes.py", "structures.py", "copies.py", "bad_input.py", "repeated_calls.py"),
    "loose_ends.py",
)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras(backend):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    # Warnings of the frameworks are not ours to mend; ours are errors.
    command += ["-W", "default", "-W", "error:::tensorstate_gpu"]
    command += [str(HERE / "cases" / file) for file in FILES]
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=1200, cwd=HERE.parents[2]
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
