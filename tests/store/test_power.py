"""A power cut after every operation: what was not fsynced is dropped, wholly or in part.

One capture is recorded; the disk is then built again as it may look after each of its operations.
"""

import random
import shutil

import pytest

from tensorstate_gpu.store.folder import Folder
from tests.support import store_runs
from tests.support.forgetful_disk import Disk, File, RecordingSystem
from tests.support.samples import sample, sweep
from tests.support.store_runs import (
    Capture,
    boundaries,
    check_finished,
    committed_instances,
    small_chunks,  # noqa: F401 a fixture
)


def recorded(path, durability, monkeypatch):
    """The operations of a whole capture; ("returned", instances) where a commit had returned."""
    system = RecordingSystem(path)
    monkeypatch.setattr(Folder, "system", system)
    told = lambda done: system.operations.append(("returned", done))  # noqa: E731
    Capture(path, durability, returned=told).run()
    monkeypatch.undo()
    return system.operations


def after_each(operations, path, chances, most=None, before=None):
    """Yields how many instances must be there, for each disk that may be found at ``path``.

    Where there are more than ``most`` such disks, a sample of them. ``before``: where a copy of
    what was on the disk before the operations is.
    """
    disks = [(number, chance) for number in range(len(operations)) for chance in chances]
    chosen = {*sample(disks, most or len(disks))}
    disk, returned = Disk(), 0
    for folder in reversed(path.parents):  # what was there before
        disk.now[folder] = disk.sure[folder] = "folder"
    for found in [] if before is None else [before, *before.rglob("*")]:
        place = path / found.relative_to(before)
        target = "folder" if found.is_dir() else File(*2 * [found.read_bytes()])
        disk.now[place] = disk.sure[place] = target
    for number, (operation, *arguments) in enumerate(operations):
        if operation == "returned":
            returned = arguments[0]
            continue
        disk.do(operation, *arguments)
        for chance in chances:
            if (number, chance) not in chosen:
                continue
            shutil.rmtree(path, ignore_errors=True)
            disk.after_power_cut(path.parents[-1], random.Random(number), chance)
            yield number, returned


@pytest.mark.slow
@sweep
def test_what_a_commit_returned_is_there_after_a_power_cut(every, quick_path, monkeypatch):
    path = quick_path
    operations = recorded(path, "power", monkeypatch)
    assert sum(operation == "fsync" for operation, *_ in operations) > 100
    cuts = 0
    for number, returned in after_each(operations, path, (0, 0.5, 1), None if every else 60):
        found = committed_instances(path)
        # A commit that has not returned may be there, too.
        assert found in boundaries(), number
        assert found >= returned, (number, operations[number][:2])
        cuts += 1
        if cuts % 5 == 0:  # the others are like these
            Capture(path, "process").run()
            check_finished(path)
    print(f"{cuts} power cuts after {len(operations)} operations")


@sweep
def test_a_rewound_store_after_a_power_cut(every, quick_path, tmp_path, monkeypatch):
    path, whole = quick_path, tmp_path / "whole"
    Capture(path, "power").run()
    shutil.copytree(path, whole)
    system = RecordingSystem(path)
    monkeypatch.setattr(Folder, "system", system)
    store_runs.rewind(path, "power")
    monkeypatch.undo()
    operations = [*system.operations, ("returned", store_runs.REWOUND), ("fsync", path)]
    either = {store_runs.REWOUND, store_runs.INSTANCES}
    for number, returned in after_each(
        operations, path, (0, 0.5, 1), None if every else 20, before=whole
    ):
        assert committed_instances(path) in ({returned} if returned else either), number


def test_the_simulation_would_see_missing_fsyncs(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    operations = recorded(path, "process", monkeypatch)
    assert not any(operation == "fsync" for operation, *_ in operations)
    lost = cuts = 0
    for _, returned in after_each(operations, path, (0.5,), 60):
        cuts += 1
        try:
            lost += committed_instances(path) < returned
        except (AssertionError, ValueError):
            lost += 1
    assert lost > cuts // 10


def test_the_programs_have_what_they_are_to_test():
    assert len(boundaries()) == 7
    assert boundaries()[-1] == store_runs.INSTANCES
