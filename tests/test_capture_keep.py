"""What a capture point keeps: counts only, compressed rows, instances, labels; threads."""

import sys
import threading
import tracemalloc

import numcodecs
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.memory_rows import CHUNK_BYTES

KEEPS = ("states", "counts")
ROWS = np.random.default_rng(1).integers(0, 3, (60, 2)).astype(np.uint8)


def new_point(neurons=16, **options):
    point = ts.CapturePoint("layer", **options)
    point.declare(neurons)
    return point


def uneven():
    """30 instances: 10 of 3 states, 20 of 1, 1 batch of none, then 5 of 2 states; 60 rows."""
    point = new_point()
    point.append(ROWS[:30], 10)
    point.append(ROWS[30:50], 20)
    point.append(ROWS[50:50], 0)
    point.append(ROWS[50:], 5)
    return point


OF_INSTANCE = np.concatenate(
    [np.arange(10).repeat(3), np.arange(10, 30), np.arange(30, 35).repeat(2)]
)


def assert_counts(histogram, rows):
    packed, counts = testing.count(rows)
    np.testing.assert_array_equal(histogram.packed, packed)
    np.testing.assert_array_equal(histogram.counts, counts)


def test_rows_are_not_kept_with_counts():
    point = new_point(keep="counts")
    point.append(ROWS, 60)
    for read in (
        lambda: point.raw_states,
        point.chunks,
        lambda: point.counts([0]),
        lambda: point.histogram(slice(3)),
        lambda: point.state_ids(0),
    ):
        with pytest.raises(ValueError, match='keep="states"'):
            read()
    with pytest.raises(ValueError, match='keep="states"'):
        point.counts_by([0] * 60)
    assert_counts(point.histogram(), ROWS)


def test_counts_need_memory_for_the_distinct_states_only():
    rows = np.random.default_rng(0).integers(0, 4, (20_000, 16)).astype(np.uint8)
    rows[:, 2:] = 7  # 16 distinct states
    peak = {}
    for keep in KEEPS:
        point = new_point(128, keep=keep)
        point.append(rows, 100)
        tracemalloc.start()
        for _ in range(300):
            point.append(rows, 100)
        peak[keep] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (point.state_count, point.instance_count) == (301 * 20_000, 30_100)
        assert len(point.counts()) == 16
    assert peak["counts"] < 1 << 20
    assert peak["states"] > 300 * rows.nbytes  # the measurement sees rows that are kept


@pytest.mark.parametrize("codec", [numcodecs.LZ4(), numcodecs.Blosc("zstd", 1), numcodecs.Zlib(1)])
def test_compressed_rows_come_back_in_order(codec):
    rows = (np.random.default_rng(0).random((2_100_001, 5)) < 0.02).astype(np.uint8)
    assert rows.nbytes > 2 * CHUNK_BYTES
    point = new_point(40, compressor=codec)
    for start in range(0, len(rows), 300_000):
        point.append(rows[start : start + 300_000], len(rows[start : start + 300_000]))
    np.testing.assert_array_equal(point.raw_states, rows)
    full = point._accumulator._keeper._full
    assert len(full) == 2
    assert all(len(chunk) < CHUNK_BYTES // 2 for chunk in full)
    np.testing.assert_array_equal(point.counts(), ts.count_states(rows, 40).counts)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64])
def test_small_chunks_lose_no_row(chunk_bytes, monkeypatch):
    monkeypatch.setattr("tensorstate_gpu.memory_rows.CHUNK_BYTES", chunk_bytes)
    point = uneven()
    assert len(list(point.chunks())) > 1
    np.testing.assert_array_equal(point.raw_states, ROWS)
    for instance in range(35):
        assert_counts(point.histogram(instance), ROWS[instance == OF_INSTANCE])


INDICES = {
    "first": 0,
    "int": 12,
    "last": -1,
    "int64": np.int64(3),
    "list": [3, 11, 31],
    "negative": [-1, -35, 5],
    "slice": slice(5, 33, 4),
    "reversed": slice(None, None, -1),
    "mask": np.arange(35) % 3 == 1,
    "mask as a list": [True] + [False] * 34,
    "array": np.array([30, 2], np.uint8),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_counts_of_some_instances(index):
    chosen = np.atleast_1d(np.arange(35)[index])
    rows = ROWS[np.isin(OF_INSTANCE, chosen)]
    point = uneven()
    assert_counts(point.histogram(index), rows)
    np.testing.assert_array_equal(point.counts(index), testing.count(rows)[1])
    assert point.state_ids(index) == [row.tobytes() for row in testing.count(rows)[0]]


def test_an_instance_that_is_named_twice_counts_twice():
    rows = ROWS[OF_INSTANCE == 4]
    assert_counts(uneven().histogram([4, 4, -31]), np.concatenate([rows] * 3))


@pytest.mark.parametrize("index", [[], slice(0), np.zeros(35, bool), np.array([], np.int64)])
def test_no_instances_have_no_counts(index):
    histogram = uneven().histogram(index)
    assert (histogram.total, len(histogram), histogram.neurons) == (0, 0, 16)
    assert uneven().state_ids(index) == []


@pytest.mark.parametrize("index", [35, -36, [0, 35]])
def test_an_instance_out_of_range(index):
    with pytest.raises(IndexError, match="35"):
        uneven().counts(index)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        ([True, False], ValueError),
        (np.ones(36, bool), ValueError),
        (True, ValueError),
        ([0.0], TypeError),
        ("a", TypeError),
        ([[0, 1]], TypeError),
        ([None], TypeError),
    ],
)
def test_a_bad_index(index, error):
    with pytest.raises(error, match="index must be"):
        uneven().counts(index)


def test_states_per_instance_where_instances_differ():
    with pytest.raises(ValueError, match=r"differ.*\[1, 2, 3\]"):
        uneven().states_per_instance()


@pytest.mark.parametrize("labels", [np.arange(35) % 4, ["b", "a", "long", "c", "b"] * 7])
def test_counts_by_label(labels):
    histograms = uneven().counts_by(labels)
    array = np.array(labels)
    assert list(histograms) == sorted(set(array.tolist()))
    for label, histogram in histograms.items():
        assert type(label) in (int, str)
        assert_counts(histogram, ROWS[(array == label)[OF_INSTANCE]])


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("kinds", ["integers", "strings", "both"])
def test_labels_during_capture(keep, kinds):
    first = ["x", "y"] * 10 if kinds == "strings" else [1, 0] * 10
    second = [2, 1] * 10 if kinds == "integers" else ["longer", "x"] * 10
    point = new_point(keep=keep)
    point.append(ROWS[:20], 20, first)
    point.labels(second)
    point.append(ROWS[20:], 20)
    histograms = point.counts_by()
    expected = sorted({*first, *second}, key=lambda label: (type(label).__name__, label))
    assert list(histograms) == expected
    for label in expected:
        chosen = [given == label for given in first] + [g == label for g in second for _ in "ab"]
        assert_counts(histograms[label], ROWS[chosen])
    assert_counts(point.histogram(), ROWS)


@pytest.mark.parametrize("keep", KEEPS)
def test_missing_labels(keep):
    point = new_point(keep=keep)
    point.append(ROWS[:20], 20, np.arange(20))
    point.labels(np.arange(40))
    point.labels(None)
    point.append(ROWS[20:], 40)
    with pytest.raises(ValueError, match="40 of 60 instances were captured without labels"):
        point.counts_by()
    assert_counts(point.histogram(), ROWS)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ([1] * 9, ValueError),
        ([1] * 11, ValueError),
        ([], ValueError),
        (3, ValueError),
        ([[1]] * 10, ValueError),
        ([0.5] * 10, TypeError),
        ([None] * 10, TypeError),
    ],
)
def test_bad_labels_change_nothing(labels, error, keep):
    point = new_point(keep=keep)
    point.append(ROWS[:20], 20, [7] * 20)
    with pytest.raises(error, match="labels must be"):
        point.append(ROWS[20:40], 10, labels)
    point.labels(labels)
    with pytest.raises(error, match="labels must be"):
        point.append(ROWS[20:40], 10)
    point.labels(None)
    assert (point.state_count, point.instance_count) == (20, 20)
    point.append(ROWS[40:], 10, [8] * 10)
    histograms = point.counts_by()
    assert list(histograms) == [7, 8]
    assert_counts(histograms[8], ROWS[40:])


def test_labels_of_the_wrong_length_afterwards():
    with pytest.raises(ValueError, match="each of the 35 instances"):
        uneven().counts_by([0] * 34)


@pytest.fixture
def restless():
    """Threads that take turns after every few instructions, as they rarely do."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(former)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("keep", KEEPS)
def test_threads_lose_no_row(keep):
    point = ts.CapturePoint("layer", keep=keep)
    batches = [np.full((10, 2), worker, np.uint8) for worker in range(8)]
    start = threading.Barrier(9)
    problems = []

    def work(worker):
        start.wait()
        for _ in range(600):
            point.declare(16)
            point.append(batches[worker], 5, [worker] * 5)

    def read():
        start.wait()
        for _ in range(300):
            try:
                if point.histogram().total % 10 or point.states_per_instance() != 2:
                    problems.append("a batch in part")
            except ValueError:
                pass  # nothing captured yet
            except RuntimeError as error:
                problems.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    threads.append(threading.Thread(target=read))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert (point.state_count, point.instance_count) == (48_000, 24_000)
    assert point.counts().tolist() == [6_000] * 8
    for worker, histogram in point.counts_by().items():
        assert_counts(histogram, batches[worker].repeat(600, axis=0))
    if keep == "states":
        rows = point.raw_states.reshape(4800, 10, 2)
        assert (rows == rows[:, :1, :1]).all()  # no batch in between another


def test_chunks_are_those_of_the_call():
    point = ts.CapturePoint("layer")
    point.declare(8)
    point.append(np.zeros((3, 1), np.uint8), 3)
    chunks = point.chunks()
    point.append(np.ones((CHUNK_BYTES, 1), np.uint8), 1)
    assert np.concatenate(list(chunks)).tolist() == [[0]] * 3


def test_labels_of_counts_take_no_memory_per_instance():
    point = ts.CapturePoint("layer", keep="counts")
    point.declare(8)
    packed, labels = np.zeros((10_000, 1), np.uint8), np.zeros(10_000, np.int64)
    point.append(packed, 10_000, labels)
    tracemalloc.start()
    for _ in range(100):
        point.append(packed, 10_000, labels)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 80_000  # one batch's labels; a hundred would be 8 MB
    assert point.counts_by()[0].total == 1_010_000
