"""Counting within a memory limit: the whole process stays below it, or at most 150 MB above."""

import subprocess
import sys
import textwrap

import pytest

MARGIN = 150 << 20
CASES = [
    (8, 6_000_000, "128MB", "new"),
    (8, 40_000_000, "256MB", "new"),
    (8, 40_000_000, "256MB", "cyclic"),
    (64, 8_000_000, "256MB", "new"),
    (2048, 400_000, "256MB", "new"),
    (8, 60_000_000, "2GB", "new"),
]
PROGRAM = """
    import multiprocessing, pathlib, sys, tempfile
    import numpy as np
    import tensorstate_gpu as ts

    def peak():
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    def write(path):
        with ts.Store(path, "x") as run:
            point = ts.CapturePoint("layer", run)
            point.declare(8 * width)
            batch = (1 << 20) // width
            for start in range(0, rows, batch):
                seed = start // batch % (10**9 if kind == "new" else 100)
                made = np.random.default_rng(seed).integers(0, 256, (batch, width), np.uint8)
                point.append(made, batch)

    width, rows, limit, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "run.zarr"
        # In another process: the memory for what waits to be written is not counted here.
        writer = multiprocessing.get_context("fork").Process(target=write, args=(path,))
        writer.start()
        writer.join()
        assert writer.exitcode == 0
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        ts.set_memory_limit(limit)
        layer = ts.Store(path)["layer"]
        entropy = layer.entropy()
        kept = layer.histogram(to=pathlib.Path(folder) / "counts.zarr")
        assert kept.total == len(layer)
        assert kept.entropy() == entropy
        print(peak(), ts.get_memory_limit(), len(kept))
"""


# Two layers that keep counts, of which a commit writes and merges those so far.
KEEPING = """
    import pathlib, sys, tempfile
    import numpy as np
    import tensorstate_gpu as ts

    def peak():
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    width, rows, limit, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    ts.set_memory_limit(limit)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "run.zarr"
        with ts.Store(path, "x", commit_seconds=None, commit_rows=rows // 3) as store:
            points = [ts.CapturePoint(name, store, keep="counts") for name in "ab"]
            for point in points:
                point.declare(8 * width)
            batch = (1 << 20) // width
            for start in range(0, rows, batch):
                seed = start // batch % (10**9 if kind == "new" else 100)
                made = np.random.default_rng(seed).integers(0, 256, (batch, width), np.uint8)
                for point in points:
                    point.append(made, batch)
            kept = points[0].counted()
            assert kept.total == points[0].state_count
        layers = ts.Store(path).efficiency_layers
        entropies = {layer.entropy() for layer in layers}
        assert entropies == {kept.entropy()}
        assert ts.Store(path).verify().orphans == []
        print(peak(), ts.get_memory_limit(), len(kept))
"""


@pytest.fixture(scope="module")
def compiled_kernels():
    """Numba's cache holds all kernels: LLVM keeps some of the memory that it compiles them with."""
    command = [sys.executable, "-m", "tensorstate_gpu", "warm-up"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.long
@pytest.mark.usefixtures("compiled_kernels")
@pytest.mark.parametrize(
    ("program", "width", "rows", "limit", "kind"),
    [(PROGRAM, *case) for case in CASES]
    + [
        (KEEPING, 8, 15_000_000, "256MB", "new"),
        (KEEPING, 8, 40_000_000, "256MB", "cyclic"),
        (KEEPING, 64, 3_000_000, "256MB", "new"),
    ],
)
def test_the_process_stays_near_the_limit(program, width, rows, limit, kind):
    command = [sys.executable, "-c", textwrap.dedent(program), str(width), str(rows), limit, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    peak, bytes_allowed, distinct = map(int, done.stdout.split())
    assert distinct > 1000
    assert peak <= bytes_allowed + MARGIN
    print(f"{peak / 1e6:.0f} MB for {distinct:,} states within {limit}")
