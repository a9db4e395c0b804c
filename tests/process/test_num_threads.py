"""One thread when asked: by the environment, or by set_num_threads()."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import cpu_fallback
from tensorstate_gpu.cpu_fallback import threads

X = np.random.default_rng(0).standard_normal((1 << 17, 64), dtype=np.float32)


@pytest.fixture(autouse=True)
def _default_again():
    yield
    ts.set_num_threads(None)


def threads_used():
    """Which threads run a large call: names, seen from inside the tasks."""
    seen = threads.in_parallel(lambda start, stop: threading.current_thread().name, 1000, 1 << 30)
    return seen


def test_the_number_that_was_set():
    expected = ts.compress_states(X), ts.count_states(ts.compress_states(X))
    for number in (1, 3, 2, 5, 1):
        ts.set_num_threads(number)
        assert ts.get_num_threads() == number
        used = threads_used()
        assert len(used) == number
        assert used[0] == threading.current_thread().name
        packed = ts.compress_states(X)
        assert np.array_equal(packed, expected[0])
        assert ts.count_states(packed) == expected[1]
        assert sum(t.name.startswith("tensorstate") for t in threading.enumerate()) <= 4 + 4
    ts.set_num_threads(None)
    assert ts.get_num_threads() == len(os.sched_getaffinity(0))


def test_large_rows_are_copied_by_all_threads():
    class Target:
        def __init__(self):
            self.rows, self.threads = np.zeros((7000, 1000), np.uint8), []

        def __setitem__(self, key, value):
            self.threads.append(threading.current_thread().name)
            self.rows[key] = value

    ts.set_num_threads(3)
    rows, target = np.random.default_rng(0).integers(0, 256, (7000, 1000), np.uint8), Target()
    cpu_fallback.copy_rows(rows, target)
    assert len(target.threads) == 3
    assert np.array_equal(target.rows, rows)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "2", True])
def test_bad_numbers(bad):
    with pytest.raises((TypeError, ValueError), match="threads must be"):
        ts.set_num_threads(bad)


def in_a_process(value, program):
    environment = os.environ | {"TENSORSTATE_NUM_THREADS": value}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


PROGRAM = """
import threading
import numpy as np
import tensorstate_gpu as ts
ts.compress_states(np.ones((1 << 17, 64), np.float32))
print(ts.get_num_threads(), sum(t.name.startswith("tensorstate") for t in threading.enumerate()))
"""


@pytest.mark.parametrize(("value", "printed"), [("1", "1 0"), ("3", "3 2")])
def test_the_environment(value, printed):
    assert in_a_process(value, PROGRAM).stdout.strip() == printed


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_bad_environment_is_named(value):
    done = in_a_process(value, PROGRAM)
    assert done.returncode == 1
    assert f"TENSORSTATE_NUM_THREADS must be an integer above 0, got '{value}'" in done.stderr


def test_changing_the_number_while_others_compute():
    expected = ts.compress_states(X)
    wrong = []
    stop = threading.Event()

    def work():
        while not stop.is_set():
            if not np.array_equal(ts.compress_states(X), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for number in [1, 4, 2, 3] * 10:
        ts.set_num_threads(number)
        ts.compress_states(X)
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong
