"""Ctrl-C at the end of a pause, while another thread adds a batch: the pause ends."""

import signal
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
