"""Tests that need separate processes: memory, forks, threads, reads beyond the array."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tests.support.samples import sweep, thinned

MIB = 1 << 20


def run(script, *arguments, timeout=1200):
    """Run a script in a fresh interpreter: an abort, a segmentation fault or a hang fails here."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    return done.stdout


MEMORY = """
    import resource, sys
    import numpy as np
    import tensorstate_gpu as ts

    def peak():
        # ru_maxrss begins with the parent's value on Linux; VmHWM is that of this program.
        try:
            lines = open("/proc/self/status").read().splitlines()
            return 1024 * next(int(l.split()[1]) for l in lines if l.startswith("VmHWM"))
        except OSError:
            scale = 1 if sys.platform == "darwin" else 1024
            return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def strided(rows):
        return np.full((rows, 288), 0.5, np.float32)[:, 16:272], -1

    def nchw(rows):
        return np.full((rows // 196, 256, 14, 14), 0.5, np.float32), 1

    def channels_last(rows):
        return np.full((rows // 196, 14, 14, 256), 0.5, np.float32).transpose(0, 3, 1, 2), 1

    def copying(states, neuron_axis):
        return ts.compress_states(np.ascontiguousarray(states)[...] + 0, neuron_axis=neuron_axis)

    make = {"strided": strided, "nchw": nchw, "channels_last": channels_last}[sys.argv[1]]
    compress = copying if sys.argv[2] == "copying" else ts.compress_states
    small, axis = make(196 * 40)
    compress(small, neuron_axis=axis)  # compiles, starts the threads
    states, axis = make(1 << 18)
    before = peak()
    packed = compress(states, neuron_axis=axis)
    print(states.nbytes, packed.nbytes, peak() - before)
    assert packed.all()
"""


@pytest.mark.parametrize(
    "layout", thinned(["strided", "nchw", "channels_last"], ["strided", "nchw"])
)
def test_a_quarter_of_a_gibibyte_is_packed_without_a_copy(layout):
    size, packed, growth = map(int, run(MEMORY, layout, "plain").split())
    assert size > 250 * MIB
    assert growth <= packed + 64 * MIB


def test_the_memory_test_detects_a_copy():
    _, packed, growth = map(int, run(MEMORY, "strided", "copying").split())
    assert growth > packed + 64 * MIB


GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    import tensorstate_gpu as ts
    from tensorstate_gpu import testing as oracle

    # Pages between two guard pages, which must not be accessed.
    page, pages = mmap.PAGESIZE, 16
    memory = mmap.mmap(-1, (pages + 2) * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for guard in (base, base + (pages + 1) * page):
        assert libc.mprotect(ctypes.c_void_p(guard), page, 0) == 0

    def placed(values, at_end):
        offset = (pages + 1) * page - values.nbytes if at_end else page
        array = np.ndarray(values.shape, values.dtype, memory, offset)
        array[...] = values
        return array

    def check(x, axis):
        assert np.array_equal(ts.compress_states(x, neuron_axis=axis), oracle.compress(x, axis))

    rng = np.random.default_rng(0)
    kinds = [np.float32, np.float64, np.float16, np.int8, np.uint32]
    kinds = {"overrun": [], "some": kinds[::3], "every": kinds}[sys.argv[1]]
    for kind in kinds:
        for neurons in [*range(1, 140), 257]:
            values = (rng.random((3, neurons, 5)) * 9 - 4).astype(kind)
            for at_end in (True, False):
                x = placed(values, at_end)
                check(x, 1)
                check(x, 2)
                check(x[:, ::-1, ::-1], 1)
                check(x.reshape(15, neurons)[::-1], 1)
                check(x.transpose(0, 2, 1), -1)
                check(x[:, :, 4:], 1)
                check(x[:, -1:], 2)
        for positions in range(6, 150):
            values = (rng.random((2, 9, positions)) * 9 - 4).astype(kind)
            for at_end in (True, False):
                x = placed(values, at_end)
                check(x, 1)
                check(x[:, :, ::-1], 1)
    for width in range(1, 40):
        for at_end in (True, False):
            packed = placed(rng.integers(0, 2, (50, width), np.uint8), at_end)
            assert np.array_equal(ts.popcount(packed), oracle.popcount(packed))
            n = 8 * width - 3
            assert np.array_equal(ts.decompress_states(packed, n), oracle.decompress(packed, n))
            assert np.array_equal(ts.sort_states(packed)[1], oracle.sort(packed)[1])
            assert np.array_equal(ts.count_states(packed).packed, oracle.count(packed)[0])
    print("survived")
    if sys.argv[1] == "overrun":
        ctypes.string_at(base + (pages + 1) * page, 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
@sweep
def test_nothing_is_read_beyond_the_array(every):
    assert "survived" in run(GUARDED, "every" if every else "some")


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
def test_guard_pages_detect_reads():
    with pytest.raises(AssertionError, match="exit status -"):
        run(GUARDED, "overrun")


FORK = """
    import os, signal, sys, threading, warnings
    import numpy as np
    import tensorstate_gpu as ts

    warnings.simplefilter("ignore", DeprecationWarning)  # forks with threads are tested
    x = np.random.default_rng(0).standard_normal((1 << 16, 64)).astype(np.float32)

    def work():
        packed = ts.compress_states(x)
        return packed, ts.count_states(packed), ts.decompress_states(packed, 64)

    def same(a, b):
        return np.array_equal(a[0], b[0]) and a[1] == b[1] and np.array_equal(a[2], b[2])

    expected = work()
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=keep_busy) for _ in range(2 * (sys.argv[1] == "busy"))]
    for thread in threads:
        thread.start()
    for _ in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(600)  # a hang ends the child
            os._exit(0 if same(work(), expected) and same(work(), expected) else 3)
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"the child ended with {status}"
        assert same(work(), expected)
    stop.set()
    for thread in threads:
        thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("parent", thinned(["idle", "busy"], ["busy"]))
def test_fork_after_use(parent):
    run(FORK, parent)


# The child is forked while another thread holds all locks.
LOCKED_FORK = """
    import os, signal, sys, threading, warnings
    import numpy as np
    import tensorstate_gpu as ts
    from tensorstate_gpu._process import fork_safe_lock
    from tensorstate_gpu.store import stores_by_path
    from tensorstate_gpu.cpu_fallback import threads

    warnings.simplefilter("ignore", DeprecationWarning)
    x = np.ones((1 << 16, 64), np.float32)
    memory, disk = ts.CapturePoint("memory"), ts.CapturePoint("disk", sys.argv[1])
    session = disk.intake.sink.store.session
    writer = session.writer
    locks = [memory.intake.lock, disk.intake.lock, session._lock, writer._lock]
    locks += [writer._background._mutex, stores_by_path._lock, threads._lock]
    held, release = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.__enter__()
        held.set()
        release.wait()
        for lock in locks:
            lock.__exit__()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(600)  # a hang ends the child
        packed = ts.compress_states(x)
        memory.reset_states()
        memory.intake.record(packed, 64, 1, len(packed))
        again = ts.CapturePoint("again", sys.argv[1] + ".child")
        again.intake.record(packed, 64, 1, len(packed))
        os._exit(0 if memory.state_count == again.histogram().total == 1 << 16 else 3)
    status = os.waitpid(child, 0)[1]
    release.set()
    holder.join()
    assert status == 0, f"the child ended with {status}"
    memory.intake.record(ts.compress_states(x), 64, 1, 1 << 16)  # the parent's locks are unchanged
    assert memory.state_count == 1 << 16
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_while_another_thread_holds_the_locks(tmp_path):
    run(LOCKED_FORK, str(tmp_path / "run"))


def test_many_threads_concurrently():
    # Large enough that each call uses the library's own threads too.
    arrays = [np.random.default_rng(s).standard_normal((1 << 14, 40 + s)) for s in range(8)]
    expected = [oracle.compress(x) for x in arrays]
    counted = [ts.count_states(packed) for packed in expected]

    def work(at):
        packed = ts.compress_states(arrays[at % 8])
        same = np.array_equal(packed, expected[at % 8])
        return same and ts.count_states(packed) == counted[at % 8]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(160)))


@pytest.mark.parametrize("threads", [1, 16])
def test_first_calls_from_many_threads(threads):
    # The first thread compiles the kernels, or reads them from the cache.
    run(
        """
        import sys, threading
        import numpy as np
        import tensorstate_gpu as ts

        def work(kind):
            start.wait()
            x = np.ones((5000, 33), kind)
            packed = ts.compress_states(x)
            assert ts.popcount(packed).tolist() == [33] * 5000
            assert len(ts.count_states(packed, 33)) == 1
            done.append(kind)

        done, start = [], threading.Barrier(int(sys.argv[1]))
        kinds = [np.float32, np.float16, np.float64, np.int8] * 4
        workers = [threading.Thread(target=work, args=[k]) for k in kinds[: start.parties]]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(done) == start.parties
        """,
        str(threads),
    )
