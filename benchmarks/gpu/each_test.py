"""A plugin for pytest that writes a line for each test at once, so that a cut run keeps them.

Before, it writes how many tests there are in each file, and which files cannot be imported.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

LINES = "TENSORSTATE_TEST_LINES"  # the variable that names the file


def pytest_configure(config: pytest.Config) -> None:
    """Of xdist, the main process writes the lines of tests, the first of the others the rest."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker is None:
        config.pluginmanager.register(Tests())
    if worker in (None, "gw0"):
        config.pluginmanager.register(Collection())


class Tests:
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            _write_report(report, round(report.duration, 2))


class Collection:
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            _write_report(report, 0.0)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        _write({"collected": Counter(item.path.name for item in session.items)})


def _write_report(report: pytest.TestReport | pytest.CollectReport, seconds: float) -> None:
    line = {"name": report.nodeid, "outcome": report.outcome, "seconds": seconds}
    _write(line if report.passed else line | {"said": _said(report)})


def _write(line: dict[str, Any]) -> None:
    with Path(os.environ[LINES]).open("a") as file:
        file.write(json.dumps(line) + "\n")


def _said(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The lines that pytest marks with E, or why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    lines = [line[1:].strip() for line in report.longreprtext.splitlines() if line[:1] == "E"]
    return " | ".join(lines)[:600] or report.longreprtext[-600:]
