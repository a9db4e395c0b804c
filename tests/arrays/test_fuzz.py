"""Arrays of random shape, strides, number type, threshold and place in memory: a hundred thousand.

Each lies against a page that must not be touched, and so does what is written. `make test` takes
a thousand of them.
"""

import subprocess
import sys
import textwrap

import pytest

from tests.support.samples import sweep

FUZZ = """
    import ctypes, mmap, sys
    import numpy as np
    import tensorstate_gpu as ts
    from tensorstate_gpu.cpu_fallback import pack as _
    from tensorstate_gpu._arrays.dlpack import borrow
    from tensorstate_gpu._states.packing import pack

    kernels = sys.modules["tensorstate_gpu.cpu_fallback.pack"]
    page, pages = mmap.PAGESIZE, 16
    libc = ctypes.CDLL(None, use_errno=True)

    class Window:
        '''Sixteen pages between two that may not be touched.'''

        def __init__(self):
            self.memory = mmap.mmap(-1, (pages + 2) * page)
            self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
            for guard in (self.base, self.base + (pages + 1) * page):
                assert libc.mprotect(ctypes.c_void_p(guard), page, 0) == 0

        def place(self, shape, dtype, at_end):
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            offset = (pages + 1) * page - size if at_end else page
            return np.ndarray(shape, dtype, self.memory, offset)

    inputs, outputs = Window(), Window()
    rng = np.random.default_rng(int(sys.argv[2]))
    noise = rng.integers(0, 256, pages * page, dtype=np.uint8)
    placed = []

    def scratch_rows(shape):
        placed.append(outputs.place(shape, np.uint8, rng.random() < 0.5))
        return placed[-1], placed[-1].ctypes.data

    kernels.scratch_rows = scratch_rows
    kinds = [np.float32, np.float32, np.float16, np.float64, np.int8, np.uint16, np.int32]

    def random_array():
        kind = kinds[rng.integers(len(kinds))]
        shape = np.maximum(rng.geometric(0.15, rng.integers(2, 5)), 1)
        if rng.random() < 0.3:
            shape[rng.integers(len(shape))] *= 17
        steps = np.where(rng.random(len(shape)) < 0.2, 2, 1)
        while int(np.prod(shape * steps)) * np.dtype(kind).itemsize > pages * page:
            shape = np.maximum(shape // 2, 1)
        base = inputs.place(tuple(shape * steps), kind, rng.random() < 0.5)
        bytes_ = base.reshape(-1).view(np.uint8)
        start = rng.integers(0, len(noise) - len(bytes_) + 1)
        bytes_[:] = noise[start : start + len(bytes_)]
        cut = tuple(
            slice(None, None, step) if rng.random() < 0.8 else slice(None, None, -step)
            for step in steps.tolist()
        )
        return base[cut].transpose(rng.permutation(len(shape)))

    def random_threshold(x, neurons):
        choice = rng.random()
        if choice < 0.6:
            return 0.0
        if choice < 0.8:
            return float(rng.choice([-1e-3, 0.5, 3.0, -40.0]))
        return rng.integers(-5, 6, neurons).astype(np.float64)

    def expected(x, axis, threshold):
        moved = np.moveaxis(x, axis, -1)
        fires = (moved > np.asarray(threshold, np.float64)).reshape(-1, x.shape[axis])
        return np.packbits(fires, axis=1, bitorder="little")

    for _ in range(int(sys.argv[1])):
        x = random_array()
        axis = int(rng.integers(-x.ndim, x.ndim))
        threshold = random_threshold(x, x.shape[axis])
        packed, neurons = pack(borrow(x, "x"), axis, threshold)
        assert neurons == x.shape[axis] and packed is placed.pop()
        assert np.array_equal(packed, expected(x, axis, threshold)), (
            x.shape, x.strides, x.dtype, axis, threshold)
    print("survived")
    if sys.argv[3:] == ["overrun"]:
        ctypes.memset(outputs.base + (pages + 1) * page, 0, 1)
"""


def fuzz(*arguments):
    command = [sys.executable, "-c", textwrap.dedent(FUZZ), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
@sweep
def test_random_arrays(every):
    done = fuzz(100_000 if every else 300, 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "survived\n"


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
def test_guard_pages_detect_an_overrun():
    done = fuzz(10, 0, "overrun")
    assert done.stdout.startswith("survived") or done.returncode < 0
    assert done.returncode < 0
