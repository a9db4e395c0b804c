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
SIDE_BY_SIDE += ("by_chance.py", "small_batches.py", "refused_rows.py", "interrupts.py")
CASES = "tests/cuda/cases"
PROCESSES = 14  # compiling kernels is most of the time
SECONDS = 60  # for one test


def stage(words: dict[str, Any]) -> bool:
    """The files side by side share their processes, of which each takes seconds to start."""
    found: dict[str, Any] = {}
    lines = results.folder() / "gpu_tests.jsonl"
    lines.unlink(missing_ok=True)
    together = unknown_first(SIDE_BY_SIDE)
    for files in (*((file,) for file in ALONE), together):
        # A file alone takes half of the time that is left at most: others come after it.
        code = _run(files, lines, bounded.seconds_left(600) / (1 if files == together else 2))
        for file in files:
            said = summary(lines, file)
            of = results.hash_of(results.ROOT / CASES / file)
            found[file] = {"exit code": _end(code, said), "hash": of, **said}
        results.write("tests", words, found)
    return all(result["exit code"] == 0 for result in found.values())


def unknown_first(files: tuple[str, ...]) -> tuple[str, ...]:
    """Files as they have passed on a device come last: time may be short."""
    on_record = results.on_record("tests")["cases"]

    def is_known(file: str) -> bool:
        passed = on_record.get(file, {"exit code": None})["exit code"] == 0
        now = results.hash_of(results.ROOT / CASES / file)
        return passed and on_record[file].get("hash") == now

    return tuple(sorted(files, key=is_known))


def _end(code: int | str, said: dict[str, Any]) -> int | str:
    """How a file ended: as the process did that ran it among others, unless it is complete."""
    ran = said["passed"] + len(said["failed"]) + len(said["skipped"])
    if said["collected"] is None or ran < said["collected"]:
        return code
    return int(bool(said["failed"]))


def _run(files: tuple[str, ...], lines: Path, seconds: float) -> int | str:
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += ["-W", "default", "--tb=short"]  # warnings of other versions than ours
    command += ["--continue-on-collection-errors"]
    command += ["-p", "benchmarks.gpu.each_test", *(f"{CASES}/{file}" for file in files)]
    if find_spec("pytest_timeout"):
        command += [f"--timeout={SECONDS}"]
    if find_spec("xdist") and len(files) > 1:
        command += ["-n", str(min(PROCESSES, os.cpu_count() or 1))]
    try:
        return bounded.run(command, seconds, env={LINES: str(lines)}).returncode
    except subprocess.TimeoutExpired:
        return "its time was up"


def summary(lines: Path, file: str) -> dict[str, Any]:
    """How many tests of a file there are (None: not known) and passed; what the others said."""
    text = lines.read_text() if lines.exists() else ""
    written = [json.loads(line) for line in text.splitlines()]
    collected = [of[file] for line in written if file in (of := line.get("collected", {}))]
    tests = [line for line in written if file in line.get("name", "")]
    said = {
        outcome: {test["name"]: test["said"] for test in tests if test["outcome"] == outcome}
        for outcome in ("failed", "skipped")
    }
    passed = sum(test["outcome"] == "passed" for test in tests)
    seconds = round(sum(test["seconds"] for test in tests), 1)
    # A file without tests that has a line of its own could not be imported, or is skipped.
    number = collected[-1] if collected else 0 if tests else None
    return {"collected": number, "passed": passed, "seconds": seconds, **said}
