"""The memory into which each thread packs its batches."""

import sys

from tensorstate_gpu.cpu_fallback.pack import scratch_rows
from tests.support.interrupting import interrupted

module = sys.modules["tensorstate_gpu.cpu_fallback.pack"]  # the package has a function "pack"
SHAPE = 1 << 11, 1 << 10  # larger than what a thread has at first


def test_memory_is_where_it_is_said_to_be_after_ctrl_c(monkeypatch):
    """Else the next batch would be packed into memory that was freed."""
    for step in range(1, 100):
        monkeypatch.setattr(module, "_scratch", type(module._scratch)())
        came = interrupted(lambda: scratch_rows(SHAPE), step)
        rows, address = scratch_rows(SHAPE)
        assert rows.ctypes.data == address
        if not came:
            break
    assert 4 < step < 99
