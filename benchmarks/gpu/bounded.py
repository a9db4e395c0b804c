"""Time for all stages together, and commands that end when theirs is up."""

import os
import signal
import subprocess
import time
from typing import Any

from benchmarks.gpu.results import ROOT

ALL_SECONDS = 520  # of all stages
_begun = time.monotonic()


def seconds_left(most: float) -> float:
    """So long may a piece of work take; nothing or less where the time is up."""
    return min(most, ALL_SECONDS - (time.monotonic() - _begun))


def run(command: list[str], most: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command on the cases, and end it with all its children when its time is up.

    Raises OSError where it cannot be started, subprocess.TimeoutExpired where it was ended.
    """
    environment = os.environ | {"TENSORSTATE_TEST_GPU": "1"}
    seconds = max(seconds_left(most), 0.1)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True, **options
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
