"""What a capture point keeps: counts only, compressed rows, instances; threads."""

import sys
import threading
import tracemalloc

import numcodecs
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu._layers.chunked_buffer import CHUNK_BYTES
from tests.support.kept_rows import KEEPS, OF_INSTANCE, ROWS, assert_counts, uneven
from tests.support.points import new_point


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
        point = new_point(neurons=128, keep=keep)
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
    point = new_point(neurons=40, compressor=codec)
    for start in range(0, len(rows), 300_000):
        point.append(rows[start : start + 300_000], len(rows[start : start + 300_000]))
    np.testing.assert_array_equal(point.raw_states, rows)
    full = point.intake.accumulator._storage._full
    assert len(full) == 2
    assert all(len(chunk) < CHUNK_BYTES // 2 for chunk in full)
    np.testing.assert_array_equal(point.counts(), ts.count_states(rows, 40).counts)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64])
def test_small_chunks_lose_no_row(chunk_bytes, chunks_of):
    chunks_of(chunk_bytes)
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


def test_a_codec_that_gives_back_its_input_keeps_nothing_of_others():
    class Identity:
        def encode(self, data):
            return data

        def decode(self, data):
            return data

    point = ts.CapturePoint("layer", compressor=Identity())
    point.declare(8)
    batch = np.ones((2 * CHUNK_BYTES + 5, 1), np.uint8)  # whole chunks of the batch itself
    point.append(batch, 1)
    batch[:] = 7
    assert point.raw_states.max() == 1
