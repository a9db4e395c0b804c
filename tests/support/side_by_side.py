"""How tests are dealt out to processes, where pytest-xdist runs several."""

from pathlib import Path

import pytest

from tests.support.cases import described

# Each of these is for one process, because its tests share what takes long to make.
TOGETHER = (
    "tests/object_stores/",
    "tests/cli/test_cli.py",
    "benchmarks/cpu/bench_count.py::test_count_trained_lenet",
)


def group_of(nodeid, root):
    """The name of what one process runs wholly: all cases of a process, or a single test."""
    path, _, name = nodeid.partition("::")
    if path.split("/")[-2:-1] == ["cases"]:
        folder = Path(path).parent
        first = name.partition("[")[2].rstrip("]").partition("-")[0]
        known = described(root / folder)["PROCESSES"]
        return f"{folder} {first if first in known else ''}"
    return next((start for start in TOGETHER if nodeid.startswith(start)), nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """What takes long comes first, so that no process is left with it at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid, config.rootpath)

    return Scheduling(config, log)
