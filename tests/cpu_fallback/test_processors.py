"""On which processors the threads of the pool wake up. Linux lets a program choose."""

import os

import pytest

from tensorstate_gpu.cpu_fallback import threads

pytestmark = pytest.mark.skipif(
    threads._this_processor is None or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two processors",
)


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    monkeypatch.setattr("tensorstate_gpu._process.num_threads._chosen", 3)
    for _ in range(2):  # the threads of a new pool are known when they have run
        threads.run(lambda part: part, [(part,) for part in range(3)])


def allowed_while_running():
    """The processors allowed to the threads of a call, that of the caller first."""
    return threads.run(lambda part: os.sched_getaffinity(0), [(part,) for part in range(3)])


def test_threads_leave_the_processor_of_the_caller_to_it(monkeypatch):
    everywhere = os.sched_getaffinity(0)
    for processor in everywhere:
        monkeypatch.setattr(threads, "_this_processor", lambda here=processor: here)
        caller, *others = allowed_while_running()
        assert caller == everywhere
        assert others
        assert all(allowed == everywhere - {processor} for allowed in others)


def test_a_caller_with_one_processor_changes_nothing():
    everywhere = os.sched_getaffinity(0)
    before = [os.sched_getaffinity(thread) for thread in threads._allowed]
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        allowed_while_running()
    finally:
        os.sched_setaffinity(0, everywhere)
    assert [os.sched_getaffinity(thread) for thread in threads._allowed] == before


def test_threads_are_told_only_if_the_caller_has_moved(monkeypatch):
    here, told = min(os.sched_getaffinity(0)), []
    monkeypatch.setattr(threads, "_allowed", {thread: set() for thread in threads._allowed})
    monkeypatch.setattr(threads, "_this_processor", lambda: here)
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, _: told.append(thread))
    for _ in range(3):
        allowed_while_running()
    assert sorted(told) == sorted(threads._allowed)
    told.clear()
    here = max(os.sched_getaffinity(0))
    allowed_while_running()
    assert sorted(told) == sorted(threads._allowed)


def test_processors_that_are_taken_away_do_not_matter(monkeypatch):
    def refused(thread, processors):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refused)
    assert threads.run(lambda part: part, [(0,), (1,), (2,)]) == [0, 1, 2]
