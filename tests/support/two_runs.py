"""A plugin for `python -m tests`: notes how each test ended, and where tests marked serial are."""

import json
import os
from pathlib import Path

import pytest

OUTCOMES = ("failed", "passed", "skipped", "xfailed", "xpassed", "error")
_serial = pytest.StashKey[set]()


def pytest_deselected(items):
    """Told in the processes that collect."""
    if not items:
        return
    config = items[0].config
    files = {item.location[0] for item in items if item.get_closest_marker("serial")}
    config.stash.setdefault(_serial, set()).update(files)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    found = session.config.stash.get(_serial, set())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["serial"] = sorted(found)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """A process of the controller's has ended."""
    found = getattr(node, "workeroutput", {}).get("serial", [])
    node.config.stash.setdefault(_serial, set()).update(found)


def pytest_terminal_summary(terminalreporter, config):
    stats = terminalreporter.stats
    counts = {outcome: len(stats.get(outcome, [])) for outcome in OUTCOMES}
    notes = {"counts": counts, "serial": sorted(config.stash.get(_serial, set()))}
    Path(os.environ["TENSORSTATE_TEST_NOTES"]).write_text(json.dumps(notes))
