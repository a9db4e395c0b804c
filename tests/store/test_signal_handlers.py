"""A signal handler that commits, as in a job that a cluster is about to end: it never hangs."""

import itertools
import signal
import sys

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store import background_writer, run_writer, shared_writing


@pytest.fixture
def handlers():
    """Returns a function that sets handlers of signals, until the test ends."""
    before = {}

    def use(number, handler):
        before.setdefault(number, signal.signal(number, handler))

    yield use
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


FILES = {module.__file__ for module in (background_writer, run_writer, shared_writing)}


def signalled_at(line, call):
    """Call a function; the line of that number of a writer's code is interrupted by SIGUSR1.

    Return whether there was one.
    """
    left = line

    def trace_lines(frame, event, _):
        nonlocal left
        if event == "line":
            left -= 1
            if not left:
                sys.settrace(None)
                signal.raise_signal(signal.SIGUSR1)
        return trace_lines

    def trace(frame, *_):
        return trace_lines if frame.f_code.co_filename in FILES else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left <= 0


def first_pass(model, run):
    model(torch.ones(4, 3))


def later_pass(model, run):
    model(torch.ones(2, 3))
    model(torch.ones(2, 3))


def reading(model, run):
    model(torch.ones(4, 3))
    run["Linear"].histogram()


def committing(model, run):
    model(torch.ones(4, 3))
    run["Linear"].flush()


def finishing(model, run):
    model(torch.ones(4, 3))
    run.close()


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("work", [first_pass, later_pass, reading, committing, finishing])
def test_a_handler_that_commits(work, keep, handlers, tmp_path):
    def late(*_):
        raise TimeoutError("the handler waits for what it has interrupted")

    handlers(signal.SIGALRM, late)
    model = torch.nn.Linear(3, 2)
    for line in itertools.count(1, 2):
        path = tmp_path / f"{line}.zarr"
        with ts.Store(path, "x", commit_seconds=None) as store:
            handlers(signal.SIGUSR1, lambda *_, store=store: store.commit())
            with ts.capture(model, storage_path=store, keep=keep) as run:
                signal.setitimer(signal.ITIMER_REAL, 60)
                was_signalled = signalled_at(line, lambda run=run: work(model, run))
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert ts.Store(path)["Linear"].state_count == 4
        if not was_signalled:
            break
    assert line > 10
