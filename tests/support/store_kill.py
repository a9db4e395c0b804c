"""Run by store/test_crashes.py: a capture killed at operations that reach the disk, one by one.

A process of its own, without torch and without threads, so that a fork takes a millisecond: each
capture and each check runs in a child.
"""

import os
import shutil
import signal
import sys
import threading
import traceback
from functools import partial
from pathlib import Path

from tensorstate_gpu._layers import chunked_buffer
from tensorstate_gpu.store import ledger_array
from tests.support import store_runs
from tests.support.samples import sample
from tests.support.store_runs import Capture, CountingSystem, boundaries


def in_a_child(work):
    """Run ``work(write)`` in a fork; how it ended, and the bytes that it wrote."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            work(lambda data: os.write(writer, data))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        written = stream.read()
    return os.waitpid(child, 0)[1], written


def capture(path, durability, keep="states"):
    Capture(path, durability, keep=keep).run()


def killed(program, path, durability, killed_at):
    """Run it, and be killed before an operation (0: never); what it published is written."""

    def work(write):
        def before(number, operation, file):
            if number == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)

        system = CountingSystem(before).install(path)
        system.published = lambda: write(b"p")
        program(path, durability)
        write(b"%d" % system.number)

    return in_a_child(work)


def check(path, *expected, keep="states"):
    """The store has exactly so many instances, and the capture goes on to the end."""

    def work(write):
        found = store_runs.committed_instances(path)
        assert found in expected, f"{found} instances found, {expected} committed"
        Capture(path, keep=keep).run()
        store_runs.check_finished(path)
        verified = store_runs.ts.Store(path).verify()
        assert verified.good, verified.problems
        assert keep == "states" or not verified.orphans, verified.orphans

    return in_a_child(work)[0] == 0


def warm_up():
    """Load here what each child needs: zarr, and the compiled kernels."""
    for name in store_runs.NEURONS:
        store_runs.ts.count_states(store_runs.rows_of_layer(name))
    assert store_runs.ts.Store
    assert store_runs.ts.CapturePoint
    assert threading.active_count() == 1, threading.enumerate()


def main(folder, durability, kills, keep):
    path = folder / "run.zarr"
    chunked_buffer.CHUNK_BYTES = store_runs.CHUNK_BYTES
    ledger_array.CHUNK_BYTES = store_runs.LEDGER_CHUNK_BYTES
    warm_up()
    program = partial(capture, keep=keep)
    status, written = killed(program, path, durability, 0)
    assert status == 0
    operations = int(written.lstrip(b"p"))
    commits = boundaries()
    # The first record is published where the store is made.
    assert written.count(b"p") == len(commits), (written, commits)
    assert check(path, store_runs.INSTANCES, keep=keep)
    numbers = range(1, operations + 1)
    chosen = sample(numbers, kills or operations, seed=durability)
    for k in chosen:
        shutil.rmtree(path)
        status, written = killed(program, path, durability, k)
        assert status == signal.SIGKILL, f"operation {k}: {status}"
        published = written.count(b"p")
        due = commits[published - 1] if published else 0
        assert check(path, due, keep=keep), f"killed at {k}"
    if keep == "states":
        kill_rewinding(path, durability, kills)
    if durability == "process":
        kill_saving(path.with_name("saved.zarr"), keep, kills)
        kill_counting(path, keep, kills)
    print(f"K = {operations} operations, durability={durability}: killed at {len(chosen)}")


def kill_rewinding(path, durability, kills):
    """Kill a program that rewinds a finished store: it has all instances then, or is rewound."""
    whole = path.with_name("whole")
    shutil.copytree(path, whole)
    status, written = killed(store_runs.rewind, path, durability, 0)
    assert status == 0
    operations = int(written.lstrip(b"p"))
    assert operations > 30, operations
    for k in sample(range(1, operations + 1), kills // 2 or operations, seed=durability):
        shutil.rmtree(path)
        shutil.copytree(whole, path)
        status, _ = killed(store_runs.rewind, path, durability, k)
        assert status == signal.SIGKILL, f"operation {k}: {status}"
        assert check(path, store_runs.REWOUND, store_runs.INSTANCES), f"killed at {k}"


def killed_at_some(program, path, kills):
    """Kill a program at operations, each time from the start. Yield how often it published."""
    status, written = killed(program, path, "process", 0)
    assert status == 0
    operations = int(written.lstrip(b"p"))
    assert operations > 10, operations
    yield written.count(b"p")
    for k in sample(range(1, operations + 1), kills // 2 or operations, seed=program.func.__name__):
        shutil.rmtree(path, ignore_errors=True)
        status, written = killed(program, path, "process", k)
        assert status == signal.SIGKILL, f"operation {k}: {status}"
        yield written.count(b"p")


def kill_saving(path, keep, kills):
    """Kill a program that saves a capture in memory: the store has all of it, or nothing."""
    published = killed_at_some(partial(store_runs.save, keep=keep), path, kills)
    whole = next(published)
    for each in published:
        due = store_runs.INSTANCES if each == whole else 0

        def work(write, due=due):
            assert store_runs.committed_instances(path) == due
            if not due:  # nobody takes it for a capture that saw no inputs
                try:
                    store_runs.ts.open_stores(path)
                except (store_runs.ts.errors.NoStore, store_runs.ts.errors.UnfinishedStore):
                    return
                raise AssertionError("a store that was not saved was opened")

        assert in_a_child(work)[0] == 0


def kill_counting(source, keep, kills):
    """Kill programs that write counts: they are whole, or not there, and running again adds."""
    check_whole_or_none(
        partial(store_runs.count_to, source=source), source.with_name("to"), "", kills
    )
    if keep == "states":
        program = partial(store_runs.count_in_parts, source=source)
        check_whole_or_none(program, source.with_name("parts"), "whole", kills)


def check_whole_or_none(program, path, name, kills):
    for _ in killed_at_some(program, path, kills):

        def work(write):
            if name or not path.exists():
                program(path)
            store_runs.check_counts(path / name)

        assert in_a_child(work)[0] == 0


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    )  # 0 kills: at each operation
