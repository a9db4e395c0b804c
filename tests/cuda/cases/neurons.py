"""Sums over states and distances on a device, or on its stand-in."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import bits, cuda, neurons
from tensorstate_gpu.cuda import bits as bit_launches
from tensorstate_gpu.cuda import device
from tensorstate_gpu.cuda import neurons as launches

# States, bytes: one block and several, and rows too wide for sums in shared memory.
SHAPES = [(0, 3), (1, 1), (33, 3), (70, 4), (2100, 5), (1500, 8), (40, 13), (9, 200), (3, 1601)]


def rows_of(states, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (states, width), np.uint8)


def unpacked(rows):
    return np.unpackbits(rows, axis=1, bitorder="little").astype(np.int64)


@pytest.mark.parametrize("shape", SHAPES)
def test_firing_counts(machine, shape):
    rows = rows_of(*shape)
    found = machine.to_host(cuda.firing_counts(machine.to_device(rows)))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, unpacked(rows).sum(axis=0))


@pytest.mark.parametrize("skew", [1, 2, 3])
def test_firing_counts_of_rows_at_any_address(machine, skew):
    flat = machine.to_device(rows_of(1, 3 * 200 + skew)[0])
    rows = flat[skew:].reshape(200, 3)
    expected = unpacked(machine.to_host(rows)).sum(axis=0)
    np.testing.assert_array_equal(machine.to_host(cuda.firing_counts(rows)), expected)


@pytest.mark.parametrize("threads", [1, 7, 300])
def test_sums_of_many_words_in_a_thread(machine, threads):
    """More than one byte holds: all ones."""
    rows = np.full((2600, 4), 255, np.uint8)
    there, counts = machine.to_device(rows), device.library().zeros(32, np.int64)
    addresses = device.address(there), device.address(counts)
    device.run(launches.firing_counts_launch(*addresses, *rows.shape, threads))
    assert machine.to_host(counts).tolist() == 32 * [2600]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("shape", [(33, 3), (2100, 5), (70, 12), (1, 1), (6200, 2), (4100, 17)])
def test_cofiring(machine, shape, parts, monkeypatch):
    rows = rows_of(*shape)
    if parts > 1:
        monkeypatch.setattr(launches, "_LEAST_TRANSPOSED", len(rows) // 2 + 1)
        monkeypatch.setattr(launches, "_TRANSPOSED_BYTES", 1)
    found = machine.to_host(cuda.cofiring(machine.to_device(rows)))
    np.testing.assert_array_equal(found, unpacked(rows).T @ unpacked(rows))


@pytest.mark.parametrize(("multiprocessors", "blocks"), [(1, 4), (132, 13)])
def test_blocks_share_long_rows_of_few_neurons(machine, multiprocessors, blocks, monkeypatch):
    """25,000 states are 782 words, of which a block compares at least 64."""
    launched = []
    monkeypatch.setattr(device, "multiprocessors", lambda: multiprocessors)
    monkeypatch.setattr(device, "run", lambda one, run=device.run: (launched.append(one), run(one)))
    rows = rows_of(25_000, 2)
    found = machine.to_host(cuda.cofiring(machine.to_device(rows)))
    np.testing.assert_array_equal(found, unpacked(rows).T @ unpacked(rows))
    (pairs,) = [one for one in launched if one.kernel == "add_both"]
    assert pairs.grid == (blocks, 1)


EACH = {8: 1, 48: 3, 64: 2, 96: 3, 128: 4, 2048: 4}


@pytest.mark.parametrize("neurons", EACH)
def test_tiles_fit_the_neurons(neurons):
    """Else most of what blocks of few neurons compare would be nothing, or the same twice."""
    each = EACH[neurons]
    made = bit_launches.add_both_launch(0, 0, neurons, 1 << 16, 528)
    assert dict(made.defines) == {"EACH": each}
    tiles = -(-neurons // (16 * each))
    assert tiles * (tiles + 1) // 2 * (16 * each) ** 2 <= max(neurons, 16) * (neurons + 32)


@pytest.mark.parametrize("width", [1, 4, 7, 68])
@pytest.mark.parametrize("rows", [(1, 1), (3, 130), (65, 64), (0, 5)])
def test_distances(machine, rows, width):
    one, other = rows_of(rows[0], width), rows_of(rows[1], width, 1)
    found = machine.to_host(cuda.distances(machine.to_device(one), machine.to_device(other)))
    assert found.dtype == np.int32
    expected = (unpacked(one)[:, None] != unpacked(other)[None]).sum(axis=2)
    np.testing.assert_array_equal(found, expected)


def test_public_functions(machine):
    rows = rows_of(1200, 5) & rows_of(1200, 5, 1)
    rows[:, 2] = rows[:, 0]
    rows[100:400] = rows[:1]
    there = machine.to_device(rows)
    for name in neurons.__all__:
        if name[0].islower() and name != "top_states":
            function = getattr(neurons, name)
            np.testing.assert_array_equal(function(there), function(rows), err_msg=name)
    assert neurons.top_states(there).counts.tolist() == neurons.top_states(rows).counts.tolist()


def test_bits(on_cuda):
    torch = pytest.importorskip("torch")
    rows = rows_of(300, 3)
    rows[100:200] = rows[:100]
    others = rows[40:90]
    one, other = on_cuda(torch.from_numpy(rows)), on_cuda(torch.from_numpy(others))
    calls = {
        "isin": lambda a, b: bits.isin(a, b),
        "unique": lambda a, _: bits.unique(a),
        "nearest": lambda a, b: bits.nearest_states(a, b),
        "within": lambda a, b: bits.states_within(a, b, 8),
        "and": lambda a, b: bits.bitwise_and(a[:50], b),
        "not": lambda a, _: bits.bitwise_not(a, 21),
        "slice": lambda a, _: bits.slice_neurons(a, 5, 24),
        "joined": lambda a, b: bits.concatenate_neurons([a[:50], b], [21, 22]),
        "by neuron": lambda a, _: ts.popcount(a, axis=0),
    }
    for name, call in calls.items():
        found, expected = call(one, other), call(rows, others)
        pairs = (
            zip(found, expected, strict=True)
            if name in ("unique", "nearest")
            else [(found, expected)]
        )
        for there, here in pairs:
            assert there.is_cuda, name
            np.testing.assert_array_equal(there.cpu().numpy(), here, err_msg=name)
