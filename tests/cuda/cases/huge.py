"""Tests that need a GPU: sizes beyond 32 bits, and memory that is full.

They do not run on the stand-in. `make gpu` runs them, and fails if there is no GPU.
"""

import gc

import cupy
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tests.cuda.cases.only_gpu import packed_on_the_host

torch = pytest.importorskip("torch")


@pytest.fixture
def _free_device_memory():
    yield
    gc.collect()
    torch.cuda.empty_cache()
    cupy.get_default_memory_pool().free_all_blocks()


@pytest.mark.usefixtures("_free_device_memory")
@pytest.mark.parametrize(
    ("shape", "axis"),
    [(((1 << 25) + 3, 64), -1), ((120_000_001, 20), -1), ((33, 1024, 256, 256), 1)],
)
def test_more_than_2_31_numbers(shape, axis):
    x = torch.empty(shape, device="cuda", dtype=torch.bfloat16).normal_()
    assert x.numel() > 1 << 31
    packed = ts.compress_states(x, neuron_axis=axis)
    per_first = len(packed) // shape[0]
    step = max(1, shape[0] // 7)
    for start in range(0, shape[0], step):
        part = ts.compress_states(x[start : start + step], neuron_axis=axis)
        there = packed[start * per_first : start * per_first + len(part)]
        assert torch.equal(there, part)
    last = packed_on_the_host(x[-1:], axis)
    np.testing.assert_array_equal(packed[-len(last) :].cpu().numpy(), last)


@pytest.mark.usefixtures("_free_device_memory")
def test_more_than_2_32_bytes_of_rows():
    rows = torch.randint(0, 256, ((1 << 29) + 5, 8), device="cuda", dtype=torch.uint8)
    ones = ts.popcount(rows)
    assert ones[-1].item() == int(np.unpackbits(rows[-1].cpu().numpy()).sum())
    bools = ts.decompress_states(rows, 64)
    assert torch.equal(bools[-3:].sum(dim=1, dtype=torch.int32), ones[-3:])


@pytest.mark.usefixtures("_free_device_memory")
def test_counts_beyond_32_bits():
    rows = torch.zeros((1 << 32) + 7, 1, device="cuda", dtype=torch.uint8)
    rows[-2:] = 3
    counts = ts.count_states(rows)
    assert counts.counts.tolist() == [(1 << 32) + 5, 2]


@pytest.mark.usefixtures("_free_device_memory")
def test_no_memory_for_a_result():
    pool = cupy.get_default_memory_pool()  # of arrays that are not torch's
    x = cupy.zeros((1 << 20, 64), np.float32)
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (1 << 20))
    try:
        with pytest.raises(MemoryError, match=r"no room on the GPU .* \(1048576, 8\)"):
            ts.compress_states(x)
    finally:
        pool.set_limit(size=0)
    assert not ts.compress_states(x).any()


@pytest.mark.usefixtures("_free_device_memory")
@pytest.mark.parametrize("width", [8, 16])
def test_counts_beyond_the_devices_memory(width):
    """Functions and capture points continue in host memory, and lose nothing."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (300_000, width), np.uint8)
    rows = np.concatenate([rows, rows[:100_000]])
    there = cupy.asarray(rows)
    point = ts.CapturePoint("layer", keep="counts")
    point.intake.record(there[:1000], 8 * width, 1, 1000)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (1 << 21))
    try:
        counts = ts.count_states(there)
        point.intake.record(there, 8 * width, 1, len(rows))
    finally:
        pool.set_limit(size=0)
    distinct, expected = oracle.count(rows)
    np.testing.assert_array_equal(counts.packed, distinct)
    np.testing.assert_array_equal(counts.counts, expected)
    assert point.histogram() == counts + ts.count_states(rows[:1000])
