"""Launches for arrays that are too large for any test machine: plain arithmetic."""

import random

import pytest

from tensorstate_gpu._arrays.dlpack import c_strides
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.layout import plan
from tensorstate_gpu._arrays.thresholds import firing_test
from tensorstate_gpu.cuda import pack, unpack
from tensorstate_gpu.cuda.divisor import MOST_DIVIDED, divisor
from tensorstate_gpu.cuda.launch import KERNELS, THREADS, Launch, source_code

BFLOAT16 = ELEMENT_TYPES["bfloat16"]


def launch(shape, axis, strides=None):
    layout = plan(shape, strides or c_strides(shape, 2), 2, axis)
    test = firing_test(BFLOAT16, 0.0, layout.neurons)
    return pack.pack_launch(0, BFLOAT16, layout, test), layout


# Shape, neuron axis, strides or None, and kernel.
HUGE = {
    "rows of 64": ((1 << 33, 64), -1, None, "pack_whole_bytes"),
    "rows and a few": (((1 << 33) + 3, 64), -1, None, "pack_whole_bytes"),
    "rows of 20": ((1 << 33, 20), -1, None, "pack_rows"),
    "NCHW": ((1 << 14, 256, 512, 512), 1, None, "pack_planes"),
    "NCHW 7 x 7": ((1 << 24, 2048, 7, 7), 1, None, "pack_maps"),
    "NCHW 63 x 63": ((1 << 16, 100, 63, 63), 1, None, "pack_maps"),
    "very wide rows": ((2, (1 << 31) + 8), -1, None, "pack_strided"),
    "almost as wide": ((2, (1 << 31) - 1), -1, None, "pack_strided"),
    "every other": ((1 << 31, 64), -1, (256, 4), "pack_strided"),
    "slices of wider rows": ((1 << 27, 64), -1, (384, 2), "pack_pitched"),
    "more slices of wider rows": ((1 << 28, 64), -1, (384, 2), "pack_strided"),
    "rows far apart": ((4, 64), -1, (1 << 33, 2), "pack_strided"),
    "channels and one": ((1 << 14, 257, 512, 512), 1, None, "pack_planes"),
    "many channels": ((2, 1 << 21, 64, 64), 1, None, "pack_planes"),
    "very many channels": ((2, 1 << 23, 64, 64), 1, None, "pack_planes"),
    "too many maps": ((1 << 31, 64, 7, 7), 1, None, "pack_planes"),
}


@pytest.mark.parametrize("name", HUGE)
def test_every_state_has_a_thread(name):
    shape, axis, strides, kernel = HUGE[name]
    made, layout = launch(shape, axis, strides)
    assert made.kernel == kernel
    blocks, one = made.grid
    assert one == 1
    groups, lanes = -(-layout.neurons // 64), dict(made.defines).get("LANES")
    covered, needed = {
        "pack_whole_bytes": (blocks * THREADS * 4, layout.states * layout.row_bytes),
        "pack_rows": (blocks * (8 * 4096 // layout.neurons // 8 * 8), layout.states),
        "pack_planes": (blocks * THREADS * (lanes or 0), layout.states * groups),
        "pack_maps": (blocks * layout.run * int(made.arguments[3]), layout.states * layout.neurons),
        "pack_pitched": (blocks * THREADS * 4, layout.states * layout.row_bytes),
        "pack_strided": (blocks * THREADS, layout.states * layout.row_bytes),
    }[kernel]
    assert needed <= covered < needed + needed // 2 + 2 * THREADS * 8


@pytest.mark.parametrize("name", HUGE)
def test_large_numbers_are_passed_in_64_bits(name):
    shape, axis, strides, _ = HUGE[name]
    made, _ = launch(shape, axis, strides)
    for argument in made.arguments:
        small = 1 << (31 if made.kernel == "pack_pitched" else 20)  # that one divides in 32 bits
        assert argument.dtype.itemsize == 8 or argument.dtype == "u4" or abs(int(argument)) < small


def test_division_by_multiplying():
    rng = random.Random(0)
    divisors = [*range(1, 300), *((1 << bit) + more for bit in range(9, 31) for more in (-1, 0, 1))]
    divisors += [
        MOST_DIVIDED - 1,
        MOST_DIVIDED,
        *(rng.randint(1, MOST_DIVIDED) for _ in range(300)),
    ]
    for by in divisors:
        same, multiplier, shift = map(int, divisor(by))
        assert (same, multiplier >> 32) == (by, 0)
        largest = MOST_DIVIDED // by * by  # of which a multiplier that is too large says one more
        for number in (0, by - 1, by, largest - 1, largest, MOST_DIVIDED, rng.randrange(1 << 31)):
            assert (2 * number * multiplier >> 32) >> shift == number // by


def test_more_blocks_than_a_gpu_runs_raise():
    with pytest.raises(ValueError, match="blocks along axis 0; a GPU runs 1 to 2147483647"):
        launch((1 << 45, 64), -1)


def test_unpacking_huge_arrays():
    made = unpack.unpack_launch(0, 0, 1 << 33, 64)
    assert made.grid[0] * THREADS * 16 >= 1 << 39
    assert all(argument.dtype.itemsize == 8 for argument in made.arguments)


def test_counting_ones_of_huge_arrays():
    made = unpack.popcount_launch(0, 0, (1 << 33) + 3, 8)
    assert made.grid[0] * THREADS >= (1 << 33) + 3
    assert int(made.arguments[2]) == (1 << 33) + 3


def test_more_groups_of_channels_than_a_gpu_runs_raise():
    Launch("pack_planes", "pack_planes", (), (1, (1 << 16) - 1), ())
    with pytest.raises(ValueError, match="blocks along axis 1; a GPU runs 1 to 65535"):
        Launch("pack_rows", "pack_planes", (), (1, 1 << 16), ())


def test_a_launch_without_blocks_raises():
    with pytest.raises(ValueError, match="needs 0 blocks"):
        Launch("pack_rows", "pack_rows", (), (0, 1), ())


def test_sources_contain_their_headers():
    """CuPy's cache identifies a kernel by its text."""
    for path in KERNELS.glob("*.cu"):
        code = source_code(path.stem)
        assert "#include" not in code
        assert "read_once(const uint4 *address)" in code
