"""A capture killed by SIGKILL at every operation that reaches the disk: see store_kill.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.samples import sweep

KILLS = 4  # of each program, in a sample
PROGRAMS = (("process", "states"), ("power", "states"), ("process", "counts"))


@pytest.mark.slow
@sweep
@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL are POSIX")
def test_killed_at_operations(every, quick_path):
    programs = []
    for durability, keep in PROGRAMS:  # side by side
        folder = quick_path.with_name(f"{durability}-{keep}")
        folder.mkdir()
        command = [sys.executable, "-m", "tests.support.store_kill", str(folder), durability]
        command.append(str(0 if every else KILLS))
        command.append(keep)
        programs.append(
            subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for (durability, _), program in zip(PROGRAMS, programs, strict=True):
        out, errors = program.communicate(timeout=1200)
        assert program.returncode == 0, errors[-3000:]
        assert out.startswith("K = "), out
        assert int(out.split()[2]) > 150
        assert durability in out
        assert int(out.split()[-1]) == (int(out.split()[2]) if every else KILLS)
        print(out.strip())
