"""A plugin for processes that cases.py starts: writes which cases there are, and each report."""

import json
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ["TENSORSTATE_CASES"]) if "TENSORSTATE_CASES" in os.environ else None


def write(**line):
    if FOLDER:
        with open(FOLDER / "lines", "a") as file:
            file.write(json.dumps(line) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    write(
        collected=[
            {
                "id": item.nodeid,
                "file": item.path.name,
                "name": item.nodeid.partition("::")[2],
                "line": item.location[1],
                "marks": sorted({mark.name for mark in item.iter_markers()}),
            }
            for item in items
        ]
    )
    if FOLDER and (FOLDER / "selected").exists():
        known = {item.nodeid: item for item in items}
        wanted = json.loads((FOLDER / "selected").read_text())
        items[:] = [known[case] for case in wanted if case in known]


def pytest_configure(config):
    config.pluginmanager.register(Told(config))


class Told:
    def __init__(self, config):
        self._config = config

    def pytest_runtest_logreport(self, report):
        hook = self._config.hook
        write(report=hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_runtest_logfinish(self, nodeid):
        write(ended=nodeid)
