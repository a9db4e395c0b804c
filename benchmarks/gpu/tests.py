"""The test suite's cases on the device: they fail, and are not skipped, where there is none."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu import bounded, results
from benchmarks.gpu.each_test import LINES

# What only a device can show comes first; it measures time, so nothing runs beside it. Then what
# the simulated one cannot show in full: streams, and threads that really run at the same time.
ALONE = ("only_gpu.py", "huge.py")
SIDE_BY_SIDE = ("streams.py", "stages.py", "tables.py", "tables_without_room.py", "counting.py")
SIDE_BY_SIDE += ("capture.py", "shortage.py", "packing.py", "neurons.py", "measures.py")
SIDE_BY_SIDE += ("by_chance.py",)
PROCESSES = 14  # compiling kernels is most of the time
SECONDS = 60  # for one test


def stage(words: dict[str, Any]) -> bool:
    found: dict[str, Any] = {}
    lines = results.folder() / "gpu_tests.jsonl"
    lines.unlink(missing_ok=True)
    for file in (*ALONE, *SIDE_BY_SIDE):
        found[file] = {"exit code": _run(file, lines), **summary(lines, file)}
        results.write("tests", words, found)
    return all(result["exit code"] == 0 for result in found.values())


def _run(file: str, lines: Path) -> int | str:
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += ["-W", "default", "--tb=short"]  # warnings of other versions than ours
    command += ["-p", "benchmarks.gpu.each_test", f"tests/cuda/cases/{file}"]
    if find_spec("pytest_timeout"):
        command += [f"--timeout={SECONDS}"]
    if find_spec("xdist") and file in SIDE_BY_SIDE:
        command += ["-n", str(min(PROCESSES, os.cpu_count() or 1))]
    try:
        return bounded.run(command, 600, env={LINES: str(lines)}).returncode
    except subprocess.TimeoutExpired:
        return "its time was up"


def summary(lines: Path, file: str) -> dict[str, Any]:
    """How many tests of a file passed, and what the others said."""
    written = lines.read_text().splitlines() if lines.exists() else []
    tests = [test for line in written if file in (test := json.loads(line))["name"]]
    said = {
        outcome: {test["name"]: test["said"] for test in tests if test["outcome"] == outcome}
        for outcome in ("failed", "skipped")
    }
    passed = sum(test["outcome"] == "passed" for test in tests)
    return {"passed": passed, "seconds": round(sum(t["seconds"] for t in tests), 1), **said}
