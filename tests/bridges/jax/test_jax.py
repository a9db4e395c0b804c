"""Runs the cases in a process of its own: JAX warns of every fork once it is imported."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_jax():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / "cases/transformations.py")],
        capture_output=True,
        text=True,
        timeout=1200,
        cwd=HERE.parents[2],
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
