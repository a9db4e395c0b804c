"""A plugin for pytest that writes a line for each test at once, so that a cut run keeps them."""

import json
import os
from pathlib import Path

import pytest

LINES = "TENSORSTATE_TEST_LINES"  # the variable that names the file


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # of xdist, whose main process writes all lines
        config.pluginmanager.unregister(name=__name__)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.passed:
        return
    line = {"name": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
    if not report.passed:
        line["said"] = _said(report)
    with Path(os.environ[LINES]).open("a") as file:
        file.write(json.dumps(line) + "\n")


def _said(report: pytest.TestReport) -> str:
    """The lines that pytest marks with E, or why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    lines = [line[1:].strip() for line in report.longreprtext.splitlines() if line[:1] == "E"]
    return " | ".join(lines)[:600] or report.longreprtext[-600:]
