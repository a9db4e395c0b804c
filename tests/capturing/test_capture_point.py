"""Capture points: every measure against NumPy, the ledger, resets, copies, bad arguments."""

import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing

KEEPS = ("states", "counts")
NEURONS = 11


def random_rows(states, neurons=NEURONS, seed=0):
    """Packed rows of which some occur often, and their bits."""
    rng = np.random.default_rng(seed)
    bits = rng.random((states, neurons)) < np.linspace(0.02, 0.9, neurons)
    return np.packbits(bits, axis=1, bitorder="little"), bits


def filled(*batches, neurons=NEURONS, **options):
    """A capture point that got batches of (rows, instances)."""
    point = ts.CapturePoint("layer", **options)
    for rows, instances in batches:
        point.declare(neurons, 1)
        point.append(rows, instances)
    return point


def shannon(counts):
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


def renyi(counts, alpha):
    p = counts / counts.sum()
    return float(np.log2((p**alpha).sum()) / (1 - alpha))


@pytest.mark.parametrize("keep", KEEPS)
def test_measures_are_those_of_numpy(keep):
    rows, bits = random_rows(600)
    point = filled((rows[:400], 100), (rows[400:], 50), keep=keep)
    packed, counts = testing.count(rows)
    assert 1 < len(counts) < 500  # neither all alike nor all distinct
    assert point.state_count == 600
    assert point.instance_count == 150
    assert point.states_per_instance() == 4
    assert point.neurons == NEURONS
    assert point.axis == 1
    assert point.counts().dtype == np.int64
    np.testing.assert_array_equal(point.counts(), counts)
    assert point.state_ids() == [row.tobytes() for row in packed]
    assert point.states.dtype == np.bool_
    np.testing.assert_array_equal(point.states, testing.decompress(packed, NEURONS))
    np.testing.assert_array_equal(np.unique(point.states, axis=0), np.unique(bits, axis=0))
    assert point.entropy() == pytest.approx(shannon(counts), rel=1e-12)
    assert point.entropy(0) == math.log2(len(counts))
    assert point.entropy(2) == pytest.approx(renyi(counts, 2), rel=1e-12)
    assert point.entropy(math.inf) == pytest.approx(-math.log2(counts.max() / 600), rel=1e-12)
    assert point.entropy(None) == point.max_entropy() == NEURONS
    assert point.efficiency() == pytest.approx(shannon(counts) / NEURONS, rel=1e-12)
    expected = shannon(counts) / math.log2(len(counts))
    assert point.efficiency(1, 0) == pytest.approx(expected, rel=1e-12)
    histogram = point.histogram()
    assert isinstance(histogram, ts.StateCounts)
    assert (histogram.total, histogram.neurons) == (600, NEURONS)
    assert "600 states" in repr(point)


@pytest.mark.parametrize("neurons", [1, 7, 8, 9, 64, 65, 1000])
@pytest.mark.parametrize("keep", KEEPS)
def test_every_width_of_a_row(neurons, keep):
    rows, _ = random_rows(200, neurons)
    point = filled((rows, 200), neurons=neurons, keep=keep)
    packed, counts = testing.count(rows)
    np.testing.assert_array_equal(point.histogram().packed, packed)
    np.testing.assert_array_equal(point.counts(), counts)


def test_rows_come_back_in_order_as_copies():
    rows, _ = random_rows(90)
    kept = rows.copy()
    point = filled((rows[:30], 30), (rows[30:], 60))
    rows[:] = 0  # the caller's buffer is not the capture's
    np.testing.assert_array_equal(point.raw_states, kept)
    np.testing.assert_array_equal(np.concatenate(list(point.chunks())), kept)
    point.raw_states[:] = 0
    np.testing.assert_array_equal(point.raw_states, kept)


def test_measures_follow_later_batches():
    rows, _ = random_rows(100)
    point = filled((rows[:50], 50))
    before = point.histogram()
    point.append(rows[50:], 50)
    assert before.total == 50
    np.testing.assert_array_equal(point.counts(), testing.count(rows)[1])


@pytest.mark.parametrize("keep", KEEPS)
def test_a_lost_row_is_noticed(keep):
    point = filled((random_rows(50)[0], 50), keep=keep)
    accumulator = point.intake.accumulator
    past_the_ledger = accumulator._storage.append if keep == "states" else accumulator._count_rows
    past_the_ledger(np.zeros((1, 2), np.uint8))
    reads = [point.histogram, point.counts, point.entropy, point.efficiency, point.state_ids]
    for read in [*reads, point.states_per_instance, lambda: point.states]:
        with pytest.raises(RuntimeError, match="50 rows were captured, 51 kept"):
            read()


def test_a_lost_row_is_noticed_where_rows_are_read():
    point = filled((random_rows(50)[0], 50))
    point.intake.accumulator._storage._filled -= 1
    for read in (lambda: point.raw_states, point.chunks, lambda: point.counts([0])):
        with pytest.raises(RuntimeError, match="50 rows were captured, 49 kept"):
            read()
    with pytest.raises(RuntimeError):
        point.counts_by([0] * 50)


READS = {
    "histogram": lambda point: point.histogram(),
    "counts": lambda point: point.counts(),
    "counts of instances": lambda point: point.counts([0]),
    "counts_by": lambda point: point.counts_by(),
    "counts_by labels": lambda point: point.counts_by([]),
    "state_ids": lambda point: point.state_ids(),
    "states": lambda point: point.states,
    "raw_states": lambda point: point.raw_states,
    "chunks": lambda point: point.chunks(),
    "entropy": lambda point: point.entropy(),
    "efficiency": lambda point: point.efficiency(),
    "states_per_instance": lambda point: point.states_per_instance(),
    "report": lambda point: ts.report(ts.Run([point])),
    "network_efficiency": lambda point: ts.network_efficiency(ts.Run([point])),
    "save": lambda point: ts.Run([point]).save("/nonexistent/never written"),
}


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_reading_an_empty_capture_raises(read, keep):
    point = ts.CapturePoint("the layer", keep=keep)
    block = r"inside the `with ts\.capture\(\.\.\.\)` block"
    with pytest.raises(ValueError, match=f"the layer: nothing captured yet.*{block}"):
        read(point)
    point.declare(5)
    point.append(np.empty((0, 1), np.uint8), 0)  # an empty batch is no capture
    with pytest.raises(ValueError, match="the layer: nothing captured yet"):
        read(point)


def test_an_empty_capture_knows_no_maximum():
    point = ts.CapturePoint("layer")
    assert (point.state_count, point.instance_count, point.neurons) == (0, 0, None)
    for read in (point.max_entropy, lambda: point.entropy(None)):
        with pytest.raises(ValueError, match="nothing captured"):
            read()


@pytest.mark.parametrize("keep", KEEPS)
def test_reset_forgets_everything(keep):
    point = filled((random_rows(50)[0], 50), keep=keep)
    point.reset_states()
    assert (point.state_count, point.instance_count, point.neurons) == (0, 0, None)
    with pytest.raises(ValueError, match="nothing captured"):
        point.counts()
    point.declare(100)
    point.append(np.ones((7, 13), np.uint8), 7)
    assert point.counts().tolist() == [7]


@pytest.mark.parametrize(("axis", "neurons"), [(None, 9), (1, 6), (-2, 8)])
def test_reset_for_an_input_shape(axis, neurons):
    point = ts.CapturePoint("layer", neuron_axis=axis)
    point.reset_states((None, 6, 8, 9))
    assert point.neurons == neurons
    assert point.max_entropy() == neurons
    with pytest.raises(ValueError, match="a batch has 99 neurons"):
        point.declare(99)


@pytest.mark.parametrize("shape", [(), (3, None), (3, 0), (3, 2.5), 7, "ab"])
def test_reset_for_a_bad_input_shape_changes_nothing(shape):
    point = filled((random_rows(50)[0], 50))
    with pytest.raises((TypeError, ValueError), match="input_shape"):
        point.reset_states(shape)
    assert point.state_count == len(point.raw_states) == 50


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(
    ("packed", "instances"),
    [
        (np.zeros((4, 3), np.uint8), 4),
        (np.zeros((4, 2), np.int8), 4),
        (np.zeros(4, np.uint8), 4),
        (np.zeros((4, 2), np.uint8), 3),
        (np.zeros((4, 2), np.uint8), 0),
        (np.zeros((4, 2), np.uint8), -4),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(packed, instances, keep):
    rows, _ = random_rows(50)
    point = filled((rows, 50), keep=keep)
    with pytest.raises(ValueError, match=r"got|divide"):
        point.append(packed, instances)
    assert (point.state_count, point.instance_count) == (50, 50)
    np.testing.assert_array_equal(point.counts(), testing.count(rows)[1])


def test_a_changed_neuron_count_is_refused_and_nothing_lost():
    rows, _ = random_rows(50)
    point = filled((rows, 50))
    with pytest.raises(ValueError, match="a batch has 12 neurons, earlier ones 11"):
        point.declare(12)
    point.append(rows, 50)
    np.testing.assert_array_equal(point.raw_states, np.concatenate([rows, rows]))


def test_rows_before_their_neurons_are_refused():
    with pytest.raises(ValueError, match="declare"):
        ts.CapturePoint("layer").append(np.zeros((4, 2), np.uint8), 4)


def test_the_seed_name():
    assert ts.AbstractStateCapture is ts.CapturePoint
