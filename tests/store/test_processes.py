"""Captured states on disk when the writing program ends, is killed, or forks."""

import contextlib
import multiprocessing
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
import zarr

import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import Folder

# Writes 5,000 rows of two layers; what follows says how the program ends.
WRITER = """
import os, signal, sys
import numpy as np
import tensorstate_gpu as ts
import tensorstate_gpu._layers.chunked_buffer
tensorstate_gpu._layers.chunked_buffer.CHUNK_BYTES = int(sys.argv[2])
rows = np.random.default_rng(0).integers(0, 256, (5000, 2)).astype(np.uint8)

def capture(name):
    point = ts.CapturePoint(name, sys.argv[1])
    point.declare(16, 1)
    for start in range(0, 5000, 700):
        batch = rows[start : start + 700]
        point.append(batch, len(batch))
    return point

points = [capture("first"), capture("second")]
"""
ENDINGS = {
    "flush": "for point in points: point.flush()",
    "no flush": "",
    "points forgotten": "del points",
    "sys.exit": "sys.exit(3)",
    "exception": "raise SystemError('on purpose')",
    "ctrl-c": "os.kill(os.getpid(), signal.SIGINT)",
    "in a function": "def f(kept=points): pass\ndel points",
    "in a cycle": "points.append(points); del points",
}
ROWS = np.random.default_rng(0).integers(0, 256, (5000, 2)).astype(np.uint8)


def written_by(program, path, chunk_bytes):
    command = [sys.executable, "-c", program, str(path), str(chunk_bytes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)


def stored(path, name):
    return np.concatenate(list(ts.Store(path)[name].chunks()))


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_another_process_reads_every_row(ending, tmp_path):
    done = written_by(WRITER + ending, tmp_path, 3000)  # 1,500 rows to a chunk: 500 are left over
    assert "captured states" not in done.stderr
    assert ts.Store(tmp_path).names == ["first", "second"]
    for name in ("first", "second"):
        np.testing.assert_array_equal(stored(tmp_path, name), ROWS)


def test_a_killed_program_keeps_what_it_committed(tmp_path):
    ending = "points[0].flush(); points[0].append(rows, 5000); os.kill(os.getpid(), signal.SIGKILL)"
    done = written_by(WRITER + ending, tmp_path, 1000)
    assert done.returncode == -signal.SIGKILL
    for name in ("first", "second"):
        np.testing.assert_array_equal(stored(tmp_path, name), ROWS)


def test_a_folder_deleted_meanwhile_stays_deleted(tmp_path):
    kept = "points += [ts.CapturePoint('kept', sys.argv[1] + '.2')]; points[-1].declare(16)\n"
    kept += "points[-1].append(rows, 5000)\nimport shutil; shutil.rmtree(sys.argv[1])"
    done = written_by(WRITER + kept, tmp_path / "run", 1 << 22)
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["run.2"]
    np.testing.assert_array_equal(stored(tmp_path / "run.2", "kept"), ROWS)


def test_rows_that_cannot_be_written_are_told_and_the_others_kept(tmp_path):
    broken = "other = ts.CapturePoint('other', sys.argv[1] + '.2'); other.declare(16)\n"
    broken += "other.append(rows, 5000); open(sys.argv[1] + '/first', 'w').close()"
    done = written_by(WRITER + broken, tmp_path / "run", 1 << 22)
    assert "captured states could not be written" in done.stderr
    np.testing.assert_array_equal(stored(tmp_path / "run.2", "other"), ROWS)


UNDER_WAY = """
    import sys
    import numpy as np
    import tensorstate_gpu as ts
    from tensorstate_gpu._layers.instance_notes import InstanceNotes

    class UnderWay:
        '''Batches that have come when they are waited for, as from a device.'''

        def __init__(self, batches):
            self.batches = batches

        @property
        def rows(self):
            return sum(map(len, self.batches))

        def oldest(self, *, wait):
            return self.batches[0] if self.batches and wait else None

        def drop_oldest(self):
            del self.batches[0]

    points = [ts.CapturePoint(name, sys.argv[1]) for name in "ab"]
    for point in points:
        point.declare(8)
        accumulator = point.intake.accumulator
        under_way = UnderWay([np.full((5, 1), 7, np.uint8), np.ones((3, 1), np.uint8)])
        accumulator._transfers[2, 0] = under_way
        batches = ((5, 1),), ((3, 1),)
        accumulator._in_flight.extend([(under_way, batch, InstanceNotes()) for batch in batches])
        accumulator.ledger.add(((8, 1),))
    if sys.argv[2] == "one fails":
        points[0].intake.accumulator._storage.add_arrived = None
    sys.kept = points  # alive at the end
"""


@pytest.mark.parametrize("what", ["all are kept", "one fails"])
def test_rows_on_their_way_from_a_device_are_kept_when_the_program_ends(what, tmp_path):
    path = tmp_path / "run.zarr"
    command = [sys.executable, "-c", textwrap.dedent(UNDER_WAY), str(path), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert ("could not be written" in done.stderr) == (what == "one fails")
    if what == "all are kept":
        for name in "ab":
            assert zarr.open_array(path / name, mode="r")[:].ravel().tolist() == [7] * 5 + [1] * 3


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")  # where JAX has been imported
def test_a_forked_child_leaves_the_rows_to_its_parent(tmp_path):
    point = ts.CapturePoint("layer", tmp_path)
    point.declare(16)
    point.append(ROWS[:2000], 2000)
    fork = multiprocessing.get_context("fork")
    release = fork.Event()
    refused = fork.Queue()

    def in_the_child():
        release.wait()
        try:
            point.append(ROWS[:1], 1)
        except RuntimeError as error:
            refused.put((str(error), point.state_count))
        point.flush()

    child = fork.Process(target=in_the_child)
    child.start()
    point.append(ROWS[2000:], 3000)
    point.flush()
    release.set()
    message, rows = refused.get(timeout=1200)
    child.join(600)
    assert child.exitcode == 0
    assert "a store has one writer" in message
    assert rows == 2000
    np.testing.assert_array_equal(stored(tmp_path, "layer"), ROWS)


def test_a_changed_working_directory(tmp_path, monkeypatch):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    point = ts.CapturePoint("layer", "run")
    point.declare(16)
    monkeypatch.chdir(tmp_path / "there")
    point.append(ROWS, 5000)
    point.flush()
    assert [file.name for file in tmp_path.glob("*/*")] == ["run"]
    np.testing.assert_array_equal(stored(tmp_path / "here" / "run", "layer"), ROWS)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:os.fork")  # where JAX has been imported
def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path):
    store = ts.Store(tmp_path / "run", "x")
    fork = multiprocessing.get_context("fork")
    runs, release = fork.Event(), fork.Event()

    def in_the_child():
        runs.set()
        release.wait(600)

    child = fork.Process(target=in_the_child)
    child.start()
    try:
        assert runs.wait(600)
        store.close()
        ts.Store(tmp_path / "run", "a").close()
    finally:
        release.set()
        child.join()


@pytest.mark.filterwarnings("ignore:os.fork")  # where JAX has been imported
def test_a_forked_child_cannot_reset_its_parents_layer(tmp_path):
    point = ts.CapturePoint("layer", tmp_path)
    point.declare(16)
    point.append(ROWS[:2000], 2000)
    point.flush()
    fork = multiprocessing.get_context("fork")
    told = fork.Queue()

    def in_the_child():
        try:
            point.reset_states()
        except RuntimeError as error:
            told.put(str(error))

    child = fork.Process(target=in_the_child)
    child.start()
    assert "a store has one writer" in told.get(timeout=1200)
    child.join(600)
    np.testing.assert_array_equal(stored(tmp_path, "layer"), ROWS[:2000])


def test_a_reader_waits_for_rows_that_nobody_holds_any_more(tmp_path):
    for k in range(20):
        point = ts.CapturePoint("layer", tmp_path / str(k))
        point.declare(16)
        point.append(ROWS, 5000)
        del point
        np.testing.assert_array_equal(stored(tmp_path / str(k), "layer"), ROWS)


def test_a_store_that_nobody_holds_is_free_for_the_next_writer(tmp_path, monkeypatch):
    release = Folder.release

    def slowly(self):
        time.sleep(0.1)
        release(self)

    monkeypatch.setattr(Folder, "release", slowly)
    for k in range(3):
        store = ts.Store(tmp_path, "a")
        point = ts.CapturePoint("layer", store)
        point.declare(16)
        point.append(ROWS[:10], 10)
        assert point.state_count == 10 * (k + 1)
        del store, point
        time.sleep(0.05)


def test_a_closed_store_takes_nothing(tmp_path):
    store = ts.Store(tmp_path, "x")
    point = ts.CapturePoint("layer", store)
    point.declare(16)
    point.append(ROWS, 5000)
    store.close()
    store.close()
    time.sleep(0.1)
    for step in (
        point.reset_states,
        store.commit,
        lambda: point.append(ROWS, 5000),
        lambda: ts.CapturePoint("other", store),
    ):
        with pytest.raises(RuntimeError, match="is closed; open it with mode='a' to go on"):
            step()
    np.testing.assert_array_equal(stored(tmp_path, "layer"), ROWS)


@pytest.mark.parametrize("given", ["path", "store"])
def test_a_capture_that_fails_before_its_first_batch_is_not_in_the_way(given, tmp_path):
    model = torch.nn.Linear(3, 4)

    def capture():
        path = tmp_path / "run"
        with contextlib.ExitStack() as stack:
            storage = path if given == "path" else stack.enter_context(ts.Store(path, "a"))
            stack.enter_context(ts.capture(model, "Linear", storage_path=storage))
            yield
            model(torch.ones(5, 3))

    for _ in range(2):
        failing = capture()
        next(failing)
        with pytest.raises(RuntimeError, match="no data"):
            failing.throw(RuntimeError("no data"))
    assert given == "store" or not list((tmp_path / "run").rglob("*"))
    assert list(capture()) == [None]
    assert ts.Store(tmp_path / "run").efficiency_layers[0].state_count == 5


def test_threads_of_zarr_start_with_the_writer(tmp_path):
    """Python 3.12 starts none when a program ends: then it lost what it had not committed."""
    program = """
import sys, threading
import numpy as np
import tensorstate_gpu as ts
store = ts.Store(sys.argv[1], "x")
point = ts.CapturePoint("layer", store)
point.declare(8)
point.append(np.ones((5, 1), np.uint8), 5, labels=[1] * 5)
names = [thread.name for thread in threading.enumerate()]
assert "zarr_io" in names and "asyncio_0" in names, names
def refused(*args):
    raise RuntimeError("can't create new thread at interpreter shutdown")
threading.Thread.start = refused
"""
    done = written_by(program, tmp_path, 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(tmp_path, "layer").tolist() == [[1]] * 5
