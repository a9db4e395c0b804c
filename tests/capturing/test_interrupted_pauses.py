"""Ctrl-C at the end of a pause, also while another thread adds a batch: the pause ends."""

import gc
import itertools
import signal
import sys
import threading
import time

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.points import new_point


def end_while_interrupted(block, lock):
    """End a block, and interrupt this thread when it waits for a lock that another one has."""
    locked, ends, main = threading.Event(), threading.Event(), threading.main_thread()

    def hold():
        with lock:
            locked.set()
            ends.wait()
            time.sleep(0.05)  # the main thread waits now; if not yet, the test finds no fault
            signal.pthread_kill(main.ident, signal.SIGINT)
            time.sleep(0.05)

    def interrupted():
        with block:
            other.start()
            locked.wait()
            ends.set()

    other = threading.Thread(target=hold)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    other.join()


def test_of_a_run():
    point = new_point()
    end_while_interrupted(ts.Run([point]).paused(), point.intake.lock)
    assert point.intake.is_open


@pytest.mark.parametrize("block", [("paused",), ("during", "test")])
def test_of_a_monitor(block):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    sampler, (method, *given) = ts.StateMonitor(model, every_n_steps=1)._sampler, block
    end_while_interrupted(getattr(sampler, method)(*given), sampler._lock)
    assert sampler.wants_now()
    assert sampler.phase == "train"


OF_BLOCKS = ("/training/", "/_capturing/", "/_process/", "contextlib.py")


def interrupted_at(place, block):
    """Enter and leave a block; the place of that number in its code is interrupted by Ctrl-C.

    Python calls handlers where a function begins, and after calls of C functions. Return whether
    there was such a place.
    """
    left = place

    def look(frame, event, _):
        nonlocal left
        is_place = event in ("call", "c_return")
        if is_place and any(each in frame.f_code.co_filename for each in OF_BLOCKS):
            left -= 1
            if not left:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        with block:
            pass
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(before)
    return left <= 0


def blocks_of_a_run():
    point = new_point()
    return ts.Run([point]).paused, lambda: point.intake.is_open


def blocks_of_a_monitor(method="paused", *given):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    monitor = ts.StateMonitor(model, every_n_steps=1)

    def is_as_before():
        return model.training and monitor.is_capturing and monitor._sampler.phase == "train"

    return lambda: getattr(monitor, method)(*given), is_as_before


@pytest.mark.parametrize(
    "new",
    [blocks_of_a_run, blocks_of_a_monitor, lambda: blocks_of_a_monitor("during", "test")],
    ids=["run", "monitor", "during"],
)
def test_interrupted_anywhere(new):
    for place in itertools.count(1):
        block, is_as_before = new()
        was_interrupted = interrupted_at(place, block())
        if not is_as_before():  # what __exit__() of a generator did not come to,
            gc.collect()  # Python does when it frees it
        assert is_as_before(), place
        if not was_interrupted:
            break
    assert place > 10
