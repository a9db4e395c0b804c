"""Too little memory: a batch is captured completely, by the host if need be, or not at all."""

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.cuda import host_copy
from tests.cuda.cases.capture import assert_captured, batches, out_of_memory, record

NEURONS = 100


@pytest.fixture
def pool(machine):
    """CuPy's memory pool, whose limit a test may set."""
    found = machine.library.get_default_memory_pool()
    yield found
    found.set_limit(size=0)


def counted_by_label(point):
    return {label: counts.total for label, counts in point.counts_by().items()}


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_no_pinned_memory(machine, keep, monkeypatch):
    point = ts.CapturePoint("layer", keep=keep)
    parts = batches(NEURONS)
    record(point, machine.to_device(parts[0]), NEURONS)
    with monkeypatch.context() as patch:
        patch.setattr(host_copy, "pinned", out_of_memory)
        record(point, machine.to_device(parts[3]), NEURONS)
    record(point, machine.to_device(parts[2]), NEURONS)
    assert_captured(point, [parts[0], parts[3], parts[2]])


@pytest.mark.parametrize("room", [0, 200, 1000, 5000, 20_000, 1 << 20])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_labelled_batches(machine, pool, keep, room):
    point = ts.CapturePoint("layer", keep=keep)
    (rows,) = batches(NEURONS, (1000,))
    there = machine.to_device(rows)
    labels = [0] * 5 + [1] * 495
    for limited in (False, True, False):
        pool.free_all_blocks()
        pool.set_limit(size=pool.used_bytes() + room if limited else 0)
        point.labels(labels)
        record(point, there, NEURONS)
    pool.set_limit(size=0)
    assert_captured(point, [rows, rows, rows])
    assert counted_by_label(point) == {0: 30, 1: 2970}
