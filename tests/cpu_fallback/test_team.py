"""Packing by torch's own threads, which gives the rows that one thread gives."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.cpu_fallback import team
from tensorstate_gpu.cpu_fallback.team import SharedPlan
from tests.support.samples import thinned

pytestmark = pytest.mark.skipif(
    not torch.backends.openmp.is_available(), reason="torch was built without OpenMP"
)
BYTES = 1 << 19  # of a batch: enough for four threads


@pytest.fixture
def by_team(monkeypatch):
    """Whether each batch that could be was packed by a team."""
    found, pack = [], SharedPlan.pack

    def noting(self, *arguments):
        found.append(pack(self, *arguments))
        return found[-1]

    monkeypatch.setattr(SharedPlan, "pack", noting)
    return found


@pytest.fixture(params=[3, 8])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    ts.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
    ts.set_num_threads(None)


def batch(shape, dtype, seed):
    """Numbers of a format, with rows up to the size of a batch."""
    rows = BYTES // (torch.empty((), dtype=dtype).itemsize * int(np.prod(shape[1:])))
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows + seed, *shape[1:], generator=random)).to(dtype)


def rows_of(batches, axis, threshold):
    fires = [(x.double() > threshold).movedim(axis, -1).flatten(0, -2).numpy() for x in batches]
    return np.packbits(np.concatenate(fires), axis=-1, bitorder="little")


def captured(batches, axis, threshold=0.0):
    layer, hook = (
        torch.nn.Identity(),
        ts.StateCaptureHook("layer", neuron_axis=axis, threshold=threshold),
    )
    hook.attach(layer)
    for x in batches:
        layer(x)
    hook.detach()
    return hook.raw_states


LAYOUTS = {
    "few neurons": ((0, 20), -1),
    "rows": ((0, 64), -1),
    "odd rows": ((0, 71), -1),
    "tokens": ((0, 7, 33), -1),
    "maps": ((0, 20, 9, 9), 1),
    "large maps": ((0, 3, 100, 70), 1),
    "one neuron": ((0, 1), -1),
}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8]


@pytest.mark.parametrize("threads", [3], indirect=True)
@pytest.mark.parametrize("threshold", thinned([0.0, -1.0], [0.0]))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS.values(), ids=LAYOUTS)
def test_rows_are_those_of_one_thread(shape, axis, dtype, threshold, threads, by_team):
    batches = [batch(shape, dtype, seed) for seed in (0, 0, 5, 5)]
    np.testing.assert_array_equal(
        captured(batches, axis, threshold), rows_of(batches, axis, threshold)
    )
    assert by_team == [True] * 2  # of each size, the first batch is looked at


def test_views_with_gaps(threads, by_team):
    wide = [torch.randn(1000, 3, 200) for _ in range(3)]
    batches = [x[:, 1, :150] for x in wide]
    np.testing.assert_array_equal(captured(batches, -1), rows_of(batches, -1, 0))
    batches = [torch.randn(2, 40, 60, 60).permute(0, 2, 3, 1)[:, 1:, ::2] for _ in range(3)]
    np.testing.assert_array_equal(captured(batches, -1), rows_of(batches, -1, 0))
    assert by_team == [True] * 4


def test_nothing_behind_the_last_row_is_read(threads):
    """The numbers end where a page that may not be read begins."""
    import mmap

    page, size = mmap.PAGESIZE, 1003 * 71 * 4
    memory = mmap.mmap(-1, -(-size // page) * page + page)
    libc = team.ctypes.CDLL(None)
    start = team.ctypes.addressof(team.ctypes.c_char.from_buffer(memory))
    end = start + len(memory) - page
    protect = libc.mprotect
    protect.argtypes = [team.ctypes.c_void_p, team.ctypes.c_size_t, team.ctypes.c_int]
    assert protect(end, page, 0) == 0
    offset = end - start - size
    x = torch.frombuffer(memory, dtype=torch.float32, offset=offset, count=1003 * 71)
    x = x.copy_(torch.randn(1003 * 71)).reshape(1003, 71)
    np.testing.assert_array_equal(captured([x] * 3, -1), rows_of([x] * 3, -1, 0))


@pytest.mark.parametrize("fewer", [1, 2])
@pytest.mark.parametrize("limit", [torch.set_num_threads, ts.set_num_threads])
def test_one_thread_packs_if_torch_or_the_user_wants_few(limit, fewer, by_team):
    batches = [batch((0, 64), torch.float32, 0)] * 3
    ts.set_num_threads(3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        layer, hook = torch.nn.Identity(), ts.StateCaptureHook("layer", neuron_axis=-1)
        hook.attach(layer)
        for x in batches:
            layer(x)
        assert by_team == [True] * 2
        limit(fewer)
        layer(batches[0])
        assert by_team == [True] * 2 + [False]
        limit(3)
        layer(batches[0])
        assert by_team == [True] * 2 + [False, True]
        rows = rows_of([*batches, *batches[:2]], -1, 0)
        np.testing.assert_array_equal(hook.raw_states, rows)
    finally:
        torch.set_num_threads(before)
        ts.set_num_threads(None)


def test_small_batches_are_packed_by_one_thread(threads, by_team):
    batches = [torch.randn(100, 64)] * 3
    np.testing.assert_array_equal(captured(batches, -1), rows_of(batches, -1, 0))
    assert not by_team


def test_a_thread_without_memory(threads, monkeypatch):
    """It packs nothing, and the batch is not recorded."""
    layer, hook = torch.nn.Identity(), ts.StateCaptureHook("layer", neuron_axis=-1)
    hook.attach(layer)
    x = batch((0, 64), torch.float32, 0)
    layer(x)
    layer(x)
    monkeypatch.setattr(team.find_team(), "call_in_all", lambda *_: None)
    with pytest.raises(MemoryError, match="no memory to pack 2,048 rows"):
        layer(x)
    assert hook.state_count == 2 * len(x)


class NoOpenMP:
    """A library without it."""


@pytest.mark.parametrize("is_available", [True, False])
def test_without_openmp_there_is_no_team(is_available, monkeypatch):
    openmp = SimpleNamespace(is_available=lambda: is_available)
    other = SimpleNamespace(
        backends=SimpleNamespace(openmp=openmp), _C=SimpleNamespace(__file__="/no/such/library.so")
    )
    monkeypatch.setitem(sys.modules, "torch", other)
    monkeypatch.setattr(team.ctypes, "CDLL", lambda path: NoOpenMP())
    assert team.find_team.__wrapped__() is None


CHILD = """
import os, torch, tensorstate_gpu as ts
torch.set_num_threads(3)
ts.set_num_threads(3)
layer, hook = torch.nn.Identity(), ts.StateCaptureHook("layer", neuron_axis=-1)
hook.attach(layer)
x = torch.randn(4096, 64)
layer(x); layer(x)
child = os.fork()
if not child:
    hook.reset_states()
for _ in range(3):
    layer(x)
assert hook.state_count == (5 if child else 3) * 4096
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork()")
def test_a_forked_child_packs_by_itself():
    """The threads are its parent's: GCC's library would wait for them for ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.communicate(timeout=300)[0] == "done\n"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
