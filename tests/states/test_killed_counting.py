"""A process that is killed while it counts: no temporary files, no counts that are not whole."""

import os
import subprocess
import sys
import textwrap

import pytest

import tensorstate_gpu as ts
from tests.support.samples import sample

PROGRAM = """
    import os, signal, sys
    import numpy as np
    import tensorstate_gpu as ts
    from tensorstate_gpu._process.scratch_file import ScratchFile
    from tensorstate_gpu.store import kept_runs
    from tensorstate_gpu.store.folder import FileSystemCalls

    path, k = sys.argv[1], int(sys.argv[2])
    kept_runs._CHUNK_BYTES = 1 << 15
    calls = 0

    def counted(call):
        def wrapped(*arguments):
            global calls
            calls += 1
            if calls == k:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)
        return wrapped

    ScratchFile._write = counted(ScratchFile._write)
    for name in ("write", "replace", "mkdir"):
        setattr(FileSystemCalls, name, counted(getattr(FileSystemCalls, name)))
    os.replace = counted(os.replace)
    from tensorstate_gpu._states.external_counter import ExternalCounter
    counter, rng = ExternalCounter(8, 1 << 22), np.random.default_rng(0)
    for _ in range(20):
        counter.add(rng.integers(0, 256, (20_000, 8), dtype=np.uint8))
    assert counter.has_spilled
    ts.StoredCounts(counter.runs(), 64).save(path)
    print(calls)
"""


def run(folder, k):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder / "counts.zarr"), str(k)]
    (folder / "temporary").mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(folder / "temporary")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file has a name for a moment")
def test_a_process_that_is_killed_at_each_operation(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr
    expected = ts.store.open_counts(tmp_path / "whole/counts.zarr")
    for k in sample(range(1, int(whole.stdout) + 1), 12):
        folder = tmp_path / str(k)
        folder.mkdir()
        assert run(folder, k).returncode == -9
        assert not [*(folder / "temporary").iterdir()]
        with pytest.raises(ts.errors.NoStore):
            ts.store.open_counts(folder / "counts.zarr")
        if k % 3 == 0:  # what was left is in nobody's way
            assert run(folder, 0).returncode == 0
            assert ts.store.open_counts(folder / "counts.zarr").load() == expected.load()
