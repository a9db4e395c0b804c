"""Small batches of packed rows, which wait on the device until they are counted together."""

import signal

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu._arrays.cupy_library import torch_allocator
from tensorstate_gpu.cuda import device, small_batches
from tests.cuda.cases.tables import assert_histogram

torch = pytest.importorskip("torch")

WIDTH = 5


def rows_of(seed, states=60):
    return np.random.default_rng(seed).integers(0, 3, (states, WIDTH), np.uint8)


@pytest.fixture
def in_torchs_memory():
    with device.library().cuda.using_allocator(torch_allocator()):
        yield


def packed_there(machine, rows):
    """A copy on the device, in memory of which no framework knows."""
    there = machine.to_device(rows)
    kept = device.empty(rows.shape, np.uint8)
    kept[...] = there
    return kept


@pytest.mark.parametrize("number", [1, 2, 7, 8])
@pytest.mark.usefixtures("in_torchs_memory")
def test_batches_are_joined(machine, number):
    """Of several blocks, and of one byte more or less than a word."""
    batches = [rows_of(seed, 400 * seed % 1100 + 3) for seed in range(number)]
    small = small_batches.SmallBatches()
    assert all(small.add(packed_there(machine, rows)) for rows in batches)
    np.testing.assert_array_equal(machine.to_host(small.joined()), np.concatenate(batches))


@pytest.mark.usefixtures("in_torchs_memory")
def test_what_does_not_wait(machine):
    small, rows = small_batches.SmallBatches(), packed_there(machine, rows_of(0))
    assert not small.add(rows[:0])
    assert not small.add(rows.T)
    large = device.empty((small_batches._MOST_BYTES // WIDTH + 1, WIDTH), np.uint8)
    assert not small.add(large)
    assert small.add(large[1:])


def counted(machine, batches, read):
    counter = cuda.counter(WIDTH)
    for rows in batches:
        counter.add(packed_there(machine, rows))
    assert counter.total == sum(map(len, batches))
    return list(map(machine.to_host, read(counter)))


@pytest.mark.parametrize("number", [1, 8, 9, 20])
@pytest.mark.parametrize("read", ["result", "drain"])
@pytest.mark.usefixtures("in_torchs_memory")
def test_all_batches_are_read(machine, number, read):
    batches = [rows_of(seed) for seed in range(number)]
    found = counted(machine, batches, lambda counter: getattr(counter, read)())
    assert_histogram(*found, np.concatenate(batches))


@pytest.mark.usefixtures("in_torchs_memory")
def test_batches_are_forgotten_when_they_are_drained(machine):
    counter = cuda.counter(WIDTH)
    counter.add(packed_there(machine, rows_of(0)))
    counter.drain()
    assert counter.total == 0
    counter.add(packed_there(machine, rows_of(1)))
    assert_histogram(*map(machine.to_host, counter.result()), rows_of(1))


@pytest.mark.usefixtures("in_torchs_memory")
def test_batches_wait_until_there_is_memory(machine, monkeypatch):
    """One that is refused is not counted; those that wait are, once."""
    counter, added = cuda.counter(WIDTH), []
    for seed in range(small_batches.MOST_BATCHES):
        counter.add(packed_there(machine, rows_of(seed)))
        added.append(rows_of(seed))
    late = packed_there(machine, rows_of(100))
    for failing in (device, counter._counts):
        name = "empty" if failing is device else "add"
        with monkeypatch.context() as patch:
            patch.setattr(failing, name, out_of_memory)
            for call in (lambda: counter.add(late), counter.result):
                with pytest.raises(MemoryError):
                    call()
        assert counter.total == 60 * len(added)
    counter.add(late)
    found = map(machine.to_host, counter.result())
    assert_histogram(*found, np.concatenate([*added, rows_of(100)]))


def out_of_memory(*arguments):
    raise MemoryError("no room")


def test_rows_of_others_do_not_wait(machine):
    """Their owner may write to them as soon as they were added."""
    counter = cuda.counter(WIDTH)
    there = machine.to_device(rows_of(0))
    counter.add(there)
    there.fill(255)
    assert_histogram(*map(machine.to_host, counter.result()), rows_of(0))


@pytest.mark.usefixtures("in_torchs_memory")
def test_batches_are_counted_once_if_a_reader_is_interrupted(machine, monkeypatch):
    counter, batches = cuda.counter(WIDTH), [rows_of(seed) for seed in range(3)]
    for rows in batches:
        counter.add(packed_there(machine, rows))
    add = counter._counts.add
    with monkeypatch.context() as patch:
        patch.setattr(counter._counts, "add", lambda *given: (add(*given), interrupt()))
        with pytest.raises(KeyboardInterrupt):
            counter.result()
    assert_histogram(*map(machine.to_host, counter.result()), np.concatenate(batches))


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("in_torchs_memory")
def test_nothing_is_lost_if_the_host_has_no_memory_for_what_is_drained(machine, monkeypatch):
    counter, batches = cuda.counter(WIDTH), [rows_of(seed) for seed in range(11)]
    for rows in batches:
        counter.add(packed_there(machine, rows))
    for module, name in [(np, "concatenate"), (device, "to_host")]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, out_of_memory)
            with pytest.raises(MemoryError):
                counter.drain()
    assert counter.total == 60 * len(batches)
    assert_histogram(*map(machine.to_host, counter.drain()), np.concatenate(batches))
