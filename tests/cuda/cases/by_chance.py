"""Arrays by chance: any shape, strides, format, threshold and address; and rows of any number."""

import itertools

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu import testing as oracle
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tests.cuda.cases import packing
from tests.cuda.cases.tables import summed
from tests.support.samples import sweep, thinned

pytestmark = pytest.mark.usefixtures("small_blocks")

LENGTHS = [1, 1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 49, 64, 65, 100, 130, 196, 300, 1000, 4100]
MOST_NUMBERS = 20_000
MOST_MEMORY = 4 * MOST_NUMBERS


def chosen(rng, values):
    return values[rng.integers(len(values))]


def shape_of(rng):
    shape = []
    for _ in range(rng.integers(2, 6)):
        room = MOST_NUMBERS // int(np.prod(shape, dtype=np.int64))
        shape.append(int(chosen(rng, [length for length in LENGTHS if length <= room])))
    if rng.random() < 0.05:
        shape[rng.integers(len(shape))] = 0
    return [shape[axis] for axis in rng.permutation(len(shape))]


def layout_of(rng, shape):
    """Return strides in numbers, the lowest and the number behind the highest of all offsets.

    The axes are in any order in memory, with gaps between them, backwards, or again and again.
    """
    strides, step = [0] * len(shape), 1
    order = rng.permutation(len(shape)) if rng.random() < 0.6 else range(len(shape) - 1, -1, -1)
    for axis in order:
        length, gap = shape[axis], 0
        if rng.random() < 0.25:
            gap = chosen(rng, [1, 3, 8, 16, step])
        if max(length, 1) * step + gap > MOST_MEMORY:
            gap = 0
        strides[axis] = step
        if length > 1 and rng.random() < 0.12:
            strides[axis] *= chosen(rng, [-1, 0])
        step = max(length, 1) * step + gap
    ends = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    lowest = -sum(end for end in ends if end < 0)
    return strides, lowest, lowest + 1 + sum(end for end in ends if end > 0)


def strided_array(rng, name):
    """Return the bits of numbers: all patterns are possible, and special ones are frequent."""
    shape, size = shape_of(rng), ELEMENT_TYPES[name].size
    strides, lowest, total = layout_of(rng, shape)
    skew = chosen(rng, [0, 0, 0, 1, 2, 3, 4, 8])  # numbers
    memory = packing.numbers((skew + max(total, 1),), name, rng.integers(1 << 30))
    special = np.array(oracle.special_bits(name), memory.dtype)
    memory = np.where(
        rng.random(len(memory)) < rng.random(), rng.choice(special, len(memory)), memory
    )
    return np.lib.stride_tricks.as_strided(
        memory[skew + lowest :], shape, [stride * size for stride in strides]
    )


def threshold_of(rng, kind, neurons, name):
    """Return a threshold, or one for each neuron; formats without -0.0 take none below 0."""
    values = rng.choice([0.0, 0.5, 1.0, 3.7, 100.0, 300.0, np.inf, 1e-40], neurons)
    if "fnuz" not in name:
        values *= rng.choice([-1.0, 1.0], neurons)
    if kind == "per neuron":
        return [float(value) for value in values]
    return 0.0 if kind == "zero" else float(-abs(values[0]) if "fnuz" not in name else values[0])


@sweep
@pytest.mark.parametrize(
    ("name", "kind"),
    thinned(list(itertools.product(ELEMENT_TYPES, packing.THRESHOLDS)), packing.SAMPLE),
)
def test_any_array_is_packed(machine, name, kind, every):
    for seed in range(200 if every else 8):
        rng = np.random.default_rng([seed, list(ELEMENT_TYPES).index(name)])
        array = strided_array(rng, name)
        axis = int(rng.integers(-array.ndim, array.ndim))
        if not array.shape[axis]:
            continue
        threshold = threshold_of(rng, kind, array.shape[axis], name)
        expected = oracle.compress(array, axis, threshold, element=name)
        found = packing.packed_by_kernels(machine, array, axis, threshold, name)
        said = f"seed {seed}: {array.shape}, {array.strides}, axis {axis}, {threshold}"
        np.testing.assert_array_equal(found, expected, err_msg=said)


def rows_of(rng, width):
    """Return rows that repeat, in memory that may begin anywhere."""
    states, skew = int(chosen(rng, [0, 1, 2, 31, 33, 65, 400, 3000])), int(rng.integers(0, 17))
    pool = rng.integers(0, 256, (chosen(rng, [1, 5, 300, 5000]), width), np.uint8)
    pool[0] = chosen(rng, [0, 1, 255])
    memory = np.empty(skew + states * width, np.uint8)
    rows = memory[skew:].reshape(states, width)
    rows[...] = pool[(len(pool) * rng.random(states) ** chosen(rng, [1, 4])).astype(np.int64)]
    return memory, skew, rows


def unpacked(rows):
    return np.unpackbits(rows, axis=1, bitorder="little").astype(np.int64)


def counted(there, rng, width, weights):
    """Count rows in batches of any number, some of which are read or moved to the host between."""
    counter, parts, begin = cuda.counter(width), [], 0
    while begin < len(there):
        end = begin + int(chosen(rng, [1, 40, 500, 2500]))
        counter.add(there[begin:end], None if weights is None else weights[begin:end])
        begin = end
        if rng.random() < 0.2:
            counter.result()
        if rng.random() < 0.2:
            parts.append(counter.drain())
    return [counter.result(), *parts]


# Each width up to 8 has a kernel of its own; of the wider ones, some do.
WIDTHS = [*range(1, 14), 15, 16, 24, 40, 64, 65, 66, 68, 100, 256, 260, 512, 520, 1601]


@sweep
@pytest.mark.parametrize("width", thinned(WIDTHS, [3, 8, 16, 100]))
def test_any_rows_are_counted(machine, width, every):
    for seed in range(40 if every else 4):
        rng = np.random.default_rng([seed, width])
        memory, skew, rows = rows_of(rng, width)
        there = machine.to_device(memory)[skew:].reshape(rows.shape)
        weights = rng.integers(1, chosen(rng, [2, 1 << 40]), len(rows)) if seed % 3 == 0 else None
        on_device = None if weights is None else machine.to_device(weights)
        parts = counted(there, rng, width, on_device)
        columns = zip(*parts, strict=True)
        found = [np.concatenate([machine.to_host(part) for part in each]) for each in columns]
        numbers = np.ones(len(rows), np.int64) if weights is None else weights
        for one, other in zip(summed(*found), summed(rows, numbers), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"seed {seed}")
        if weights is None:
            distinct, counts = map(machine.to_host, cuda.count(there))
            np.testing.assert_array_equal(distinct, oracle.count(rows)[0])
            np.testing.assert_array_equal(counts, oracle.count(rows)[1])


@sweep
@pytest.mark.parametrize("width", thinned(WIDTHS, [3, 16]))
def test_functions_of_any_rows(machine, width, every):
    for seed in range(20 if every else 2):
        rng = np.random.default_rng([seed, width])
        memory, skew, rows = rows_of(rng, width)
        there = machine.to_device(memory)[skew:].reshape(rows.shape)
        neurons, others = int(rng.integers(8 * width - 7, 8 * width + 1)), rows[5:70][::-1]
        on_device = machine.to_device(others)
        fired, of_others = unpacked(rows), unpacked(others)
        known = {*map(bytes, others)}
        edges, order = oracle.sort(rows)
        distinct, counts = oracle.count(rows)
        places = np.zeros(len(rows), np.int64)
        places[order] = np.repeat(np.arange(len(counts)), counts)
        expected = {
            "popcount": [fired.sum(axis=1)],
            "decompress": [fired[:, :neurons]],
            "firing_counts": [fired.sum(axis=0)],
            "sort": [edges, order],
            "unique": [distinct, counts, places],
            "isin": [[row.tobytes() in known for row in rows]],
            "distances": [
                fired.sum(axis=1)[:, None] + of_others.sum(axis=1) - 2 * fired @ of_others.T
            ],
        }
        if width <= 24:  # a wider one takes the fibers a minute, and NumPy's integers more
            expected["cofiring"] = [fired.T @ fired]
        more = {"decompress": [neurons], "isin": [on_device], "distances": [on_device]}
        for name, results in expected.items():
            found = getattr(cuda, name)(there, *more.get(name, []))
            found = found if isinstance(found, tuple) else (found,)
            for one, other in zip(found, results, strict=True):
                said = f"{name}, seed {seed}: {rows.shape} at {skew}"
                np.testing.assert_array_equal(machine.to_host(one), other, err_msg=said)
