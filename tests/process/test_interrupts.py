"""Ctrl-C and other signals leave a capture whole: a batch is kept with its ledger entry, or not."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._process import interrupts
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu.cpu_fallback.threads import in_parallel


def test_an_interrupt_waits_for_the_end_of_the_block():
    finished = []

    def interrupted():
        with deferred_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Stopped(BaseException):
    """What the handler of a signal raises."""


@pytest.fixture
def stopping(request):
    """A signal whose handler raises Stopped, as a job may do that is to end soon."""

    def stop(number, frame):
        raise Stopped(number)

    before = signal.signal(request.param, stop)
    yield request.param
    assert signal.getsignal(request.param) is stop
    signal.signal(request.param, before)


SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
    if hasattr(signal, name)
]


@pytest.mark.parametrize("stopping", SIGNALS, indirect=True)
def test_each_handler_waits_and_is_put_back(stopping):
    finished = []

    def interrupted():
        with deferred_interrupts(), deferred_interrupts():
            signal.raise_signal(stopping)
            finished.append(True)

    with pytest.raises(Stopped):
        interrupted()
    assert finished


@pytest.mark.parametrize("stopping", SIGNALS[1:2], indirect=True)
def test_all_handlers_are_called_whatever_the_first_raises(stopping):
    def interrupted():
        with deferred_interrupts():
            signal.raise_signal(stopping)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted()
    assert isinstance(raised.value.__context__, Stopped)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("stopping", SIGNALS[1:2], indirect=True)
@pytest.mark.parametrize("while_", ["it begins", "it ends"])
def test_a_handler_that_raises_meanwhile_leaves_none_of_ours(stopping, while_, monkeypatch):
    """Ctrl-C between the handlers that a block replaces, and between those that it puts back."""

    times = []

    def interrupted(number, handler):
        before = signal.signal(number, handler)
        if number == (signal.SIGINT if while_ == "it begins" else stopping) and not times:
            times.append(number)
            raise KeyboardInterrupt
        return before

    def block():
        with deferred_interrupts():
            monkeypatch.setattr(interrupts, "signal", interrupted)

    if while_ == "it begins":
        monkeypatch.setattr(interrupts, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        block()
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("stopping", SIGNALS[1:2], indirect=True)
def test_no_signal_is_lost_if_a_handler_raises_before_a_block(stopping, monkeypatch):
    """Ctrl-C, whose handler waits already, and then one whose handler does not wait yet."""

    def interrupted(number, handler):
        if number == stopping:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(stopping)
        return signal.signal(number, handler)

    monkeypatch.setattr(interrupts, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised, deferred_interrupts():
        pytest.fail("the block does not begin")
    assert isinstance(raised.value.__context__, Stopped)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("stopping", SIGNALS[:2], indirect=True)
def test_a_batch_is_kept_whole(keep, stopping, monkeypatch):
    point = ts.CapturePoint("layer", keep=keep)
    point.declare(20)
    point.append(np.zeros((10, 3), np.uint8), 10)
    accumulator = point.intake.accumulator
    keep_rows = accumulator._add

    def interrupted(packed, batches, notes):
        keep_rows(packed[:5], ((5, 1),), notes)
        signal.raise_signal(stopping)
        keep_rows(packed[5:], ((5, 1),), notes)

    monkeypatch.setattr(accumulator, "_add", interrupted)
    with pytest.raises(Stopped):
        point.append(np.ones((10, 3), np.uint8), 10)
    assert point.state_count == 20
    assert point.counts().tolist() == [10, 10]


def test_a_program_without_a_python_handler_ends_by_the_signal():
    program = (
        "import os, signal\n"
        "from tensorstate_gpu._process.interrupts import deferred_interrupts\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "with deferred_interrupts():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('finished', flush=True)\n"
        "print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "finished\n"
    assert done.returncode == -signal.SIGINT


# A pool that is interrupted while it starts its first thread, as an impatient user can do.
STARTING = """
import os, signal, threading
import numpy as np
import tensorstate_gpu as ts
start = threading.Thread.start
def interrupted(thread):
    start(thread)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread.start = interrupted
try:
    ts.compress_states(np.ones((1 << 16, 64), np.float32))
    print("done")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(ts.get_num_threads() < 2, reason="one processor starts no thread")
def test_an_interrupt_while_the_threads_start_does_not_hang_the_end():
    done = subprocess.run(
        [sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=1200
    )
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr


@pytest.mark.skipif(ts.get_num_threads() < 2, reason="one processor waits for no other")
def test_an_interrupt_waits_for_the_other_threads():
    finished = []

    def task(start, stop):
        if start == 0:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            time.sleep(0.2)
        finished.append(start)

    with pytest.raises(KeyboardInterrupt):
        in_parallel(task, 2, 1 << 30)
    assert sorted(finished) == [0, 1]


@pytest.mark.skipif(ts.get_num_threads() < 2, reason="one processor waits for no other")
def test_a_failing_task_waits_for_the_other_threads():
    finished = []

    def task(start, stop):
        if start == 0:
            raise ArithmeticError
        time.sleep(0.2)
        finished.append(start)

    with pytest.raises(ArithmeticError):
        in_parallel(task, 2, 1 << 30)
    assert finished == [1]
