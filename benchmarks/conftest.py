"""After a timed run: a table on the screen, and all timings as JSON where ``--save`` says so."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cpu.regression_guard import processor
from benchmarks.harness.memory import keep_freed_memory
from benchmarks.harness.processors import keep_results
from benchmarks.harness.tables import summary_line

LIBRARIES = ("numpy", "numba", "torch", "polars", "duckdb", "pyarrow")


@pytest.fixture(scope="session", autouse=True)
def _memory_touched_once(request):
    """On a virtual machine the first touch of a page may take 5 us: once, and not while we time."""
    if request.config.getoption("benchmark_enable"):
        np.ones(1 << 29)
        keep_freed_memory()


def pytest_addoption(parser):
    parser.addoption(
        "--save",
        metavar="FOLDER",
        help="write the timings there, to a JSON file with the processor in its name",
    )


def machine() -> dict[str, object]:
    """The machine in words, and what ran on it."""
    return {
        "processor": _model_name(),
        "code for": processor(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def _model_name() -> str:
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
    folder = config.getoption("--save")
    if folder:
        target = keep_results(Path(folder), processor(), machine(), cases)
        terminalreporter.write_line(f"\nwritten to {target}")
