"""The memory of chunks: of huge pages, apart from malloc, and refused as memory that is short."""

import errno
import mmap
from pathlib import Path

import numpy as np
import pytest

from tensorstate_gpu._layers import chunked_buffer
from tensorstate_gpu._layers.chunked_buffer import new_array
from tensorstate_gpu._layers.memory_rows import MemoryRows

LARGE = (1 << 15, 100)
only_huge = pytest.mark.skipif(
    not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system is not asked for huge pages"
)


def is_asked_for_huge_pages(address):
    """Whether the pages at an address are marked "hg" in Linux's list of this process's memory."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds = line.split(" ")[0].split("-")
        if len(bounds) == 2:
            inside = int(bounds[0], 16) <= address < int(bounds[1], 16)
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split()
    return False


@only_huge
def test_large_arrays_begin_with_a_huge_page_that_is_asked_for():
    array = new_array(LARGE, np.dtype(np.uint8))
    address = array.ctypes.data
    assert address % (1 << 21) == 0
    assert is_asked_for_huge_pages(address)
    array[-1] = 7
    assert array.shape == LARGE
    assert array[-1].tolist() == [7] * 100


@pytest.mark.parametrize("dtype", ["u1", "i8"])
def test_arrays_have_the_shape_and_dtype_that_were_asked_for(dtype):
    for shape in ((0, 3), (10, 3), LARGE):
        array = new_array(shape, np.dtype(dtype))
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_small_arrays_share_pages_with_others():
    assert new_array((100, 100), np.dtype(np.uint8)).base is None


@only_huge
def test_memory_that_the_system_refuses_is_a_memory_error_and_the_rows_stay(monkeypatch):
    rows = MemoryRows(100)
    rows.append(np.ones((1 << 14, 100), np.uint8))

    def refused(*arguments):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(chunked_buffer.mmap, "mmap", refused)
    with pytest.raises(MemoryError, match=r"no memory for 4,194,\d+ bytes"):
        rows.append(np.zeros((1 << 15, 100), np.uint8))
    assert rows.rows == 1 << 14
    assert all(chunk.all() for chunk in rows.chunks())
