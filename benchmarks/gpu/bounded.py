"""Time for all stages together, shared out among them, and commands that end when theirs is up."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.results import ROOT

ALL_SECONDS = 520.0
_ends = [float("inf")]  # when the time of the stage that runs is up


def in_turn(shares: dict[str, float], seconds: float = ALL_SECONDS) -> Iterator[str]:
    """Yield the stages: each has its share of what is left, and leaves the rest to later ones."""
    end = time.monotonic() + seconds
    names = list(shares)
    for place, name in enumerate(names):
        now = time.monotonic()
        share = shares[name] / sum(shares[later] for later in names[place:])
        _ends[0] = now + share * max(0.0, end - now)
        yield name
    _ends[0] = float("inf")


def seconds_left(most: float = float("inf")) -> float:
    """So long may a piece of work take; nothing or less where the stage's time is up."""
    return min(most, _ends[0] - time.monotonic())


def check_time() -> None:
    """Raise TimeoutError where the stage's time is up."""
    if seconds_left() <= 0:
        raise TimeoutError("the time of this stage is up")


def run(command: list[str], most: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command on the cases, and end it with all its children when its time is up.

    Raises OSError where it cannot be started, subprocess.TimeoutExpired where it was ended.
    """
    options = {"cwd": ROOT, "text": True, "start_new_session": True} | options
    options["env"] = os.environ | {"TENSORSTATE_TEST_GPU": "1"} | options.get("env", {})
    seconds = max(seconds_left(most), 0.1)
    with subprocess.Popen(command, **options) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
