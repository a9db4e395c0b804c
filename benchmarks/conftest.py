"""After a timed run: a table on the screen, and all timings as JSON where ``--save`` says so."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.memory import keep_freed_memory
from benchmarks.harness.tables import summary_line

LIBRARIES = ("numpy", "numba", "torch", "polars", "duckdb", "pyarrow")


@pytest.fixture(scope="session", autouse=True)
def _memory_touched_once(request):
    """On a virtual machine the first touch of a page may take 5 us: once, and not while we time."""
    if request.config.getoption("benchmark_enable"):
        np.ones(1 << 29)
        keep_freed_memory()


def pytest_addoption(parser):
    parser.addoption("--save", metavar="FILE", help="write the timings to this JSON file")


def machine() -> dict[str, object]:
    """The machine in words, and what ran on it."""
    return {
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    cases = {
        bench.name.removeprefix("test_"): dict(bench.extra_info)
        for bench in (session.benchmarks if session else [])
        if bench.extra_info
    }
    if not cases:
        return
    terminalreporter.write_line("")
    for name, case in cases.items():
        terminalreporter.write_line(summary_line(name, case))
    target = config.getoption("--save")
    if target:
        results = {"machine": machine(), "cases": cases}
        Path(target).write_text(_as_json(results) + "\n")
        terminalreporter.write_line(f"\nwritten to {target}")


def _as_json(results: dict[str, object]) -> str:
    """One line per contender, four digits per number: small, and readable as a diff."""

    def shorten(value):
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, dict):
            return {key: shorten(item) for key, item in value.items()}
        return [shorten(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(shorten(results), indent=1)
    lines, inside = [], False
    for line in text.split("\n"):
        if inside:
            lines[-1] += (
                line.strip()
                if line.strip() == "]" or line.strip() == "],"
                else (line.strip() + " ")
            )
        else:
            lines.append(line)
        inside = line.rstrip().endswith("[") or (inside and not line.strip().startswith("]"))
    return "\n".join(lines).replace(" ]", "]")
