"""Only called kernels are compiled, once per machine, if any folder for the cache is writable."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tensorstate_gpu as ts

ROOT = Path(ts.__file__).resolve().parent.parent
WORK = """
import numpy as np
import tensorstate_gpu as ts
packed = ts.compress_states(np.eye(9, 20, dtype=np.float32))
print(len(ts.count_states(packed, 20)), ts.popcount(packed).sum())
"""


def run(program, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


def compiled(folder):
    return {path.name.partition("-")[0] for path in folder.rglob("*.nbi")}


@pytest.mark.slow
def test_only_called_kernels_are_compiled_and_cached(tmp_path):
    done = run(WORK, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout.split() == ["9", "9"], done.stderr
    functions = compiled(tmp_path)
    assert {"pack_kernels.pack_rows", "merge._write_runs", "unpack._count_narrow"} <= functions
    assert not functions & {
        "pack_kernels.pack_planes",
        "unpack._unpack_rows",
        "narrow_table._insert_rows",
    }
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}
    assert run(WORK, NUMBA_CACHE_DIR=str(tmp_path)).stdout.split() == ["9", "9"]
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb*")}


TWO_TYPES = """
import sys, time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from tensorstate_gpu.cpu_fallback.compiling import kernel, cache_use

@kernel
def double(x):
    return x + x

def wait_for(file, seconds):
    end = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)

def saving_slowly(self, overloads, save=IndexDataCacheFile._save_index):
    Path("chosen").touch()  # the name of the file for integers
    wait_for(Path("saving"), 60)
    wait_for(Path("saved"), 1)  # in vain, for the other process waits for this one
    save(self, overloads)

def saving(*arguments, save=double._cache.save_overload):
    wait_for(Path("chosen"), 60)
    Path("saving").touch()
    save(*arguments)
    Path("saved").touch()

if sys.argv[1] == "integers":
    IndexDataCacheFile._save_index = saving_slowly
    double(1)
elif sys.argv[1] == "floats":
    double._cache.save_overload = saving
    double(1.5)
else:
    print(double(1), double(1.5), *cache_use()[:2])
"""


def test_processes_that_compile_one_kernel_at_the_same_moment_do_not_mix_their_code(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TWO_TYPES)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def start(what):
        command = [sys.executable, "-W", "error", program, what]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    both = [start("integers"), start("floats")]
    assert [process.communicate(timeout=120)[0] for process in both] == ["", ""]
    assert start("both").communicate(timeout=120)[0] == "2 3.0 2 0\n"  # loaded, and none compiled


ONE_KERNEL = """
import numpy as np
import tensorstate_gpu as ts
print(9, ts.popcount(np.eye(9, dtype=np.uint8)).sum())
"""


@pytest.mark.parametrize(
    "program",
    [ONE_KERNEL, pytest.param(WORK, marks=pytest.mark.long)],
    ids=["one kernel", "several kernels"],
)
def test_several_processes_with_a_cold_cache(program, tmp_path):
    command = [sys.executable, "-W", "error", "-c", program]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate(timeout=1200)[0].split() for process in running] == [["9", "9"]] * 4


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions are POSIX")
@pytest.mark.parametrize("temporary", ["writable", "planted"])
def test_a_read_only_install_without_a_home(temporary, tmp_path):
    """Numba alone raises an error there."""
    site = tmp_path / "site"
    package = site / "tensorstate_gpu"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tensorstate_gpu", package, ignore=ignore)
    shutil.copytree(ROOT / "cpu_fallback", package / "cpu_fallback", ignore=ignore)
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "tmp" / f"tensorstate_gpu-{os.getuid()}"
    if temporary == "planted":  # a folder that other users may write to is not trusted
        folder.mkdir()
        folder.chmod(0o777)
    # Root may write anywhere, but not into a file in place of the cache folder.
    for kernels in (package / "cpu_fallback", package):
        (kernels / "__pycache__").write_text("")
    home = tmp_path / "home"
    home.write_text("")
    done = run(
        ONE_KERNEL + "print(ts.__file__)",
        cwd=tmp_path,
        PYTHONPATH=str(site),
        PYTHONDONTWRITEBYTECODE="1",
        HOME=str(home),
        XDG_CACHE_HOME=str(home),
        TMPDIR=str(tmp_path / "tmp"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["9", "9", str(package / "__init__.py")]
    assert bool(compiled(folder)) == (temporary == "writable")
