"""Counting some ten thousand narrow rows, of which each thread sorts a range of values."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tensorstate_gpu import testing
from tensorstate_gpu.cpu_fallback import in_cache, numpy_sort
from tensorstate_gpu.cpu_fallback.merge import count_by_sorting
from tensorstate_gpu.cpu_fallback.threads import split_ranges

ROWS = 10_001  # odd: halves are not equal
HIGHEST = 2**64 - 1
rng = np.random.default_rng(0)


def seldom(probability):
    fires = rng.random((ROWS, 64)) < probability
    return np.packbits(fires, axis=1, bitorder="little").view(np.uint64)[:, 0]


def sample_differs():
    """Words that agree in their high bits, except for those that the sample of one part has."""
    words = rng.integers(0, 1 << 30, ROWS, dtype=np.uint64)
    step = (ROWS // 256 - 1) | 1
    words[: 256 * step : step] |= np.arange(256, dtype=np.uint64) << np.uint64(56)
    return words


WORDS = {
    "random": rng.integers(0, HIGHEST, ROWS, dtype=np.uint64, endpoint=True),
    "seldom": seldom(0.02),
    "often": seldom(0.9),
    "equal": np.full(ROWS, 77, np.uint64),
    "most lowest": np.where(rng.random(ROWS) < 0.9, np.uint64(0), seldom(0.5)),
    "most highest": np.where(rng.random(ROWS) < 0.9, np.uint64(HIGHEST), seldom(0.5)),
    "two": rng.integers(0, 2, ROWS, dtype=np.uint64) * np.uint64(HIGHEST),
    "in order": np.arange(ROWS, dtype=np.uint64) << np.uint64(20),
    "sample differs": sample_differs(),
}


@pytest.fixture(params=["radix", "NumPy"], autouse=True)
def sort(request, monkeypatch):
    """Both, as on different processors."""
    monkeypatch.setattr(numpy_sort, "is_fast", lambda: request.param == "NumPy")


@pytest.mark.parametrize("threads", [1, 2, 3, 12, 64])
@pytest.mark.parametrize("width", [3, 7, 8])
@pytest.mark.parametrize("name", WORDS)
def test_each_row_is_counted_once(name, width, threads):
    rows = np.ascontiguousarray(WORDS[name].view(np.uint8).reshape(ROWS, 8)[:, :width])
    parts = split_ranges(ROWS, threads)
    assert in_cache.fits(parts)
    packed, counts = count_by_sorting(rows, parts)
    expected, times = testing.count(rows)
    np.testing.assert_array_equal(packed, expected)
    np.testing.assert_array_equal(counts, times)


@pytest.mark.parametrize("width", [3, 7])
def test_a_thread_writes_no_rows_of_others(width, monkeypatch):
    """Also where the others have written theirs before it: words are longer than rows."""
    monkeypatch.setattr(
        sys.modules[count_by_sorting.__module__],
        "run",
        lambda task, each: [task(*one) for one in reversed(each)][::-1],
    )
    rows = np.ascontiguousarray(WORDS["random"].view(np.uint8).reshape(ROWS, 8)[:, :width])
    packed, _ = count_by_sorting(rows, split_ranges(ROWS, 3))
    np.testing.assert_array_equal(packed, testing.count(rows)[0])


def test_rows_of_some_ranges_only():
    rows = WORDS["random"].view(np.uint8).reshape(ROWS, 8)
    parts = [(10, 3000), (9990, ROWS), (3000, 9000)]
    packed, counts = count_by_sorting(rows, parts)
    expected, times = testing.count(np.concatenate([rows[start:stop] for start, stop in parts]))
    np.testing.assert_array_equal(packed, expected)
    np.testing.assert_array_equal(counts, times)


@pytest.mark.parametrize("threads", [2, 3, 12])
def test_threads_have_about_as_many_rows_each(threads):
    """Also where rows repeat in powers of two, as those of images do."""
    places = np.sort(WORDS["random"][:64])
    words = np.add.outer(np.arange(520, dtype=np.uint64), places).ravel()
    rows = words.view(np.uint8).reshape(-1, 8)
    ranges = in_cache.split_words(rows, split_ranges(len(rows), threads))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == HIGHEST
    assert [low for low, _ in ranges[1:]] == [int(high) + 1 for _, high in ranges[:-1]]
    sizes = [np.sum((words >= low) & (words <= high)) for low, high in ranges]
    assert len(sizes) == threads
    assert max(sizes) < 1.4 * len(rows) / threads


def test_counts_of_few_states_keep_no_memory_of_many():
    rows = WORDS["equal"].view(np.uint8).reshape(ROWS, 8)
    for array in count_by_sorting(rows, [(0, ROWS)]):
        assert array.base is None or array.base.nbytes < 100


# Sorts rows behind which no memory can be read.
AT_THE_END = textwrap.dedent("""
    import ctypes, mmap, sys
    import numpy as np
    from tensorstate_gpu.cpu_fallback import in_cache

    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(base + page), page, 0) == 0
    beyond = int(sys.argv[1])
    for width in range(1, 9):
        for rows in (1, 2, page // width):
            size = rows * width
            packed = np.ndarray((rows, width), np.uint8, memory, page - size)
            if beyond:
                packed = np.ndarray((rows, width), np.uint8, memory, page)
            words, _ = in_cache.sorted_between(
                packed, np.array([[0, rows]]), np.uint64(0), ~np.uint64(0)
            )
            assert len(words) == rows
    print("survived")
""")


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
@pytest.mark.parametrize("sort", ["radix"], indirect=True)  # which a process tells for itself
def test_nothing_is_read_behind_the_rows():
    for beyond in (0, 1):
        done = subprocess.run(
            [sys.executable, "-c", AT_THE_END, str(beyond)], capture_output=True, text=True
        )
        assert (done.returncode < 0) == beyond, done.stderr  # reading there ends a process
        assert done.stdout == ("" if beyond else "survived\n")
