"""Runs jax_cases.py in a process of its own: JAX warns of every fork once it is imported."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_jax():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / "jax_cases.py")],
        capture_output=True,
        text=True,
        timeout=1200,
        cwd=HERE.parent,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
