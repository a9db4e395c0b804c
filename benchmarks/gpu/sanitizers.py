"""compute-sanitizer over a few cases: memory, races, uninitialised memory, synchronisation."""

import re
import subprocess
import sys
from typing import Any

from benchmarks.gpu import bounded
from benchmarks.gpu.results import write

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SECONDS = 60  # for each tool
PACKING, TABLES = "tests/cuda/cases/packing.py", "tests/cuda/cases/tables.py"
NEURONS = "tests/cuda/cases/neurons.py"
CASES = (
    f"{PACKING}::test_unpack_and_popcount[20]",
    f"{PACKING}::test_pack[rows of 64-float32-zero]",
    f"{PACKING}::test_pack[rows of 20-bfloat16-zero]",
    f"{PACKING}::test_pack[NCHW-float16-zero]",
    f"{PACKING}::test_pack[NCHW 7 x 7-bfloat16-per neuron]",
    f"{PACKING}::test_pack[five axes, mixed-float64-negative]",
    f"{PACKING}::test_pack[rows of a wider array-bfloat16-per neuron]",
    f"{NEURONS}::test_cofiring[shape1-2]",
    f"{NEURONS}::test_distances[rows2-7]",
    f"{TABLES}::test_table[3]",
    f"{TABLES}::test_table[8]",
    f"{TABLES}::test_table[15]",
    f"{TABLES}::test_table[64]",
    f"{TABLES}::test_wide_rows[100]",
    "tests/cuda/cases/tables_without_room.py::test_drained_tables_are_empty[16]",
)


def stage(words: dict[str, Any]) -> bool:
    found: dict[str, Any] = {}
    for tool in TOOLS:
        found[tool] = _run(tool)
        write("sanitizers", words, found)
    return all(result["errors"] == 0 for result in found.values())


def _run(tool: str) -> dict[str, Any]:
    pytest = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    pytest += ["-W", "default"]
    if tool == "racecheck":
        pytest += ["-p", "benchmarks.gpu.known_to_racecheck"]
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *pytest, *CASES]
    try:
        done = bounded.run(command, SECONDS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"errors": None, "said": str(error)[:300]}
    return verdict(tool, done.returncode, done.stdout)


def verdict(tool: str, code: int, output: str) -> dict[str, Any]:
    """How many errors a tool found; None where it did not really run, with what it said."""
    banner, summary = "COMPUTE-SANITIZER", "SUMMARY:"
    lines = [line for line in output.splitlines() if line.startswith("=========")]
    last = next((line for line in reversed(lines) if summary in line), "")
    words = last.partition(summary)[2].split()
    ran = banner in output and bool(words) and f"{len(CASES)} passed" in output
    if not ran or not words[0].isdigit():
        return {"errors": None, "exit code": code, "said": "\n".join(lines[-5:])[:300]}
    errors = re.search(r"(\d+) errors?, \d+ warnings?", last)  # of racecheck, if it has found any
    number = int(errors[1] if errors else words[0])
    found = {"errors": number, "exit code": code, "said": last.strip("= ")}
    places = sorted({line.strip("= ")[:200] for line in lines if " access at " in line})
    return {**found, "places": places[:10]} if places else found
