"""What is done to all layers of a run at once: emptying and closing it, over one store or two."""

import errno
import os
import signal
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.store_runs import CountingSystem, system_as_it_was  # noqa: F401 a fixture

ROWS = np.random.default_rng(0).integers(0, 256, (20, 2)).astype(np.uint8)
KEEPS = pytest.mark.parametrize("keep", ["states", "counts"])


def run_in(place, names="abc", keep="states"):
    run = ts.Run([ts.CapturePoint(name, place, keep=keep) for name in names])
    for point in run.values():
        point.declare(16)
        point.append(ROWS, 20)
    return run


def committed(path):
    return {layer.name: layer.state_count for layer in ts.Store(path).efficiency_layers}


@KEEPS
def test_a_run_is_emptied_by_one_commit(keep, tmp_path):
    path, published = tmp_path / "run", []
    with ts.Store(path, "x", commit_seconds=None) as store:
        run = run_in(store, keep=keep)
        store.commit()
        system = CountingSystem(lambda *_: None).install(path)
        system.published = lambda: published.append(committed(path))
        run.reset()
        assert published == [{}]
        assert [file.name for file in path.rglob("*") if file.is_file()] == ["zarr.json"]
        run["b"].declare(16)
        run["b"].append(ROWS[:5], 5)
        store.commit()
        assert committed(path) == {"a": 0, "b": 5, "c": 0}
    assert ts.Store(path)["b"].histogram() == ts.count_states(ROWS[:5], 16)


def test_two_runs_of_the_same_points_may_be_emptied_at_once():
    """Whichever order they have the points in, they take the locks of all in the same one."""
    points = [ts.CapturePoint(str(n)) for n in range(3)]
    runs = [ts.Run(points), ts.Run(points[::-1])]
    threads = [threading.Thread(target=run.reset, daemon=True) for run in runs]
    locks = [point.intake.lock for point in points]
    with ExitStack() as ends:
        for end in (locks[0], locks[-1]):  # of the first of each run
            ends.enter_context(end)
        for thread in threads:
            thread.start()
            thread.join(0.1)
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def full(number, operation, file):
    if operation == "write":
        raise OSError(errno.ENOSPC, "No space left on device")


@KEEPS
def test_a_reset_that_fails_deletes_nothing_until_it_is_repeated(keep, tmp_path):
    path = tmp_path / "run"

    with ts.Store(path, "x", commit_seconds=None) as store:
        run = run_in(store, keep=keep)
        store.commit()
        CountingSystem(full).install(path)
        with pytest.raises(OSError, match="No space left"):
            run.reset()
        assert committed(path) == dict.fromkeys("abc", 20)
        CountingSystem(lambda *_: None).install(path)
        run.reset()
        assert committed(path) == {}


@KEEPS
@pytest.mark.parametrize("resets", [1, 2])
def test_a_run_goes_on_after_a_reset_that_failed(resets, keep, tmp_path):
    path = tmp_path / "run"

    with ts.Store(path, "x", commit_seconds=None) as store:
        run = run_in(store, keep=keep)
        store.commit()
        CountingSystem(full).install(path)
        for _ in range(resets):
            with pytest.raises(OSError, match="No space left"):
                run.reset()
        for point in run.values():
            assert point.state_count == 0
            point.declare(16)
        assert committed(path) == dict.fromkeys("abc", 20)
        CountingSystem(lambda *_: None).install(path)
        for point in run.values():
            point.append(ROWS[:5], 5)
        store.commit()
        run["b"].append(ROWS[5:], 15)
    kept = ts.Store(path)
    assert committed(path) == {"a": 5, "b": 20, "c": 5}
    assert kept["b"].histogram() == ts.count_states(ROWS, 16)
    assert kept["c"].histogram() == ts.count_states(ROWS[:5], 16)
    assert not kept.verify().problems


@KEEPS
def test_a_store_that_was_emptied_goes_on_although_another_cannot_commit(keep, tmp_path):
    paths = {name: tmp_path / name for name in "ab"}
    run = ts.Run([run_in(path, name, keep)[name] for name, path in paths.items()])
    for point in run.values():
        point.flush()

    def full(number, operation, file):
        if operation == "write" and file.is_relative_to(paths["b"]):
            raise OSError(errno.ENOSPC, "No space left on device")

    CountingSystem(full).install(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        run.reset()
    CountingSystem(lambda *_: None).install(tmp_path)
    assert committed(paths["b"]) == {"b": 20}
    run["a"].declare(16)
    run["a"].append(ROWS[:5], 5)
    run.close()
    assert committed(paths["a"]) == {"a": 5}


@KEEPS
def test_a_reset_that_is_interrupted_is_done(keep, tmp_path):
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        run = run_in(store, keep=keep)
        store.commit()

        def interrupt(number, operation, file):
            if operation == "write":
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)  # the main thread waits for this one

        CountingSystem(interrupt).install(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run.reset()
        CountingSystem(lambda *_: None).install(tmp_path)
        for point in run.values():
            point.declare(16)
            point.append(ROWS[:5], 5)
    assert committed(tmp_path / "run") == dict.fromkeys("abc", 5)


def test_a_reset_while_another_thread_captures(tmp_path):
    stop, errors = threading.Event(), []
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        run = run_in(store)

        def append():
            try:
                while not stop.is_set():
                    for point in run.values():
                        point.append(ROWS, 20)
            except ValueError as error:
                errors.append(error)

        def declared(before):  # a reset forgets how many neurons there are
            def begin_anew(intake):
                before(intake)
                intake.declare(16)

            return begin_anew

        with pytest.MonkeyPatch.context() as patch:
            begin_anew = type(run["a"].intake).begin_anew
            patch.setattr(type(run["a"].intake), "begin_anew", declared(begin_anew))
            thread = threading.Thread(target=append)
            thread.start()
            for _ in range(20):
                run.reset()
            stop.set()
            thread.join()
        assert not errors
        counts = {name: point.state_count for name, point in run.items()}
    assert committed(tmp_path / "run") == counts  # also of layers that were empty in the end


@pytest.mark.parametrize("failing", ["one", "two", "both"])
def test_each_store_of_a_run_is_closed_if_another_cannot_commit(failing, tmp_path):
    paths = {name: tmp_path / name for name in ("one", "two")}
    points = [run_in(path, name)[name] for path, name in zip(paths.values(), "ab", strict=True)]

    def full(number, operation, file):
        if operation == "write" and any(
            file.is_relative_to(path) and failing in (name, "both") for name, path in paths.items()
        ):
            raise OSError(errno.ENOSPC, "No space left on device")

    CountingSystem(full).install(tmp_path)
    run = ts.Run(points)
    with pytest.raises(OSError, match="No space left"):
        run.close()
    for name, path in paths.items():
        assert ts.Store(path).closed == (failing not in (name, "both"))
    CountingSystem(lambda *_: None).install(tmp_path)
    run.close()
    assert all(ts.Store(path).closed for path in paths.values())
    assert [committed(path) for path in paths.values()] == [{"a": 20}, {"b": 20}]
