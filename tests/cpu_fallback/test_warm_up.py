"""Kernels that are compiled into a folder are loaded from copies of it, and are never outdated."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli import warm_up_command
from tensorstate_gpu.cpu_fallback.compiling import cache_use
from tests.support.commands import refused

ROOT = Path(ts.__file__).resolve().parent.parent
ONE_KERNEL = """
import numpy as np
import tensorstate_gpu as ts
assert ts.popcount(np.eye(9, dtype=np.uint8)).sum() == 9
from tensorstate_gpu.cpu_fallback.compiling import cache_use
print(*cache_use()[:2])
"""
CAPTURES = """
import numpy as np
import torch
import tensorstate_gpu as ts
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 20, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(2880, 100)
)
for keep in ("states", "counts"):
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        with ts.capture(model.to(dtype), keep=keep) as run, torch.no_grad():
            for _ in range(2):
                with run.labels(torch.arange(64) % 3):
                    model(torch.randn(64, 1, 16, 16, dtype=dtype))
        print(run.report(by_label=True))
    states = np.random.default_rng(0).integers(0, 2, (70_000, 70)).astype(bool)
    for neurons in (20, 50, 70):
        counts = ts.count_states(ts.compress_states(states[:, :neurons]))
        counts + counts
from tensorstate_gpu.cpu_fallback.compiling import cache_use
print(*cache_use()[:2])
"""


def numbers_of(program, cwd=None, **environment):
    """The last line that a program prints: how many kernels it loaded and compiled."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.splitlines()[-1].split()))


def test_a_copied_folder_is_used_and_not_what_older_code_left_in_it(tmp_path):
    site, first, copied = tmp_path / "site", tmp_path / "first", tmp_path / "copied"
    ignore = shutil.ignore_patterns("__pycache__")
    package = site / "tensorstate_gpu"
    shutil.copytree(ROOT / "tensorstate_gpu", package, ignore=ignore)
    shutil.copytree(ROOT / "cpu_fallback", package / "cpu_fallback", ignore=ignore)
    program = "import sys; sys.dont_write_bytecode = True" + ONE_KERNEL

    def loaded_and_compiled(folder):
        return numbers_of(program, cwd=tmp_path, NUMBA_CACHE_DIR=str(folder), PYTHONPATH=str(site))

    assert loaded_and_compiled(first) == (0, 1)
    shutil.copytree(first, copied, copy_function=shutil.copyfile)  # with other times
    assert loaded_and_compiled(copied) == (1, 0)
    # popcount imports its intrinsics from there; its own file stays the same.
    with (package / "cpu_fallback/intrinsics.py").open("a") as file:
        file.write("\n# another version\n")
    assert loaded_and_compiled(copied) == (0, 1)


def test_a_folder_that_cannot_be_used(capsys, tmp_path):
    assert cache_use()  # the kernels are loaded, and have their folder
    line = refused(capsys, "warm-up", tmp_path / "new")
    assert "the kernels are loaded already" in line
    assert not (tmp_path / "new").exists()


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "tensorstate_gpu", "warm-up", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"tensorstate: {tmp_path / 'file'} is no folder\n"


def test_a_folder_in_which_numba_cannot_write(tmp_path):
    """It would cache elsewhere in silence."""
    warm_up_command.check_cache([tmp_path / "wanted" / "kernels"], tmp_path / "wanted")
    with pytest.raises(PermissionError, match=r"cannot write to its folder in .*wanted"):
        warm_up_command.check_cache([tmp_path / "other"], tmp_path / "wanted")
    with pytest.raises(OSError, match="give FOLDER"):
        warm_up_command.check_cache([], None)


def test_an_empty_name_of_a_folder(capsys):
    assert "FOLDER is empty" in refused(capsys, "warm-up", "")


@pytest.mark.long
def test_captures_and_counts_compile_nothing_after_a_warm_up(tmp_path):
    folder, copied = tmp_path / "folder", tmp_path / "copied"
    command = [sys.executable, "-W", "error", "-m", "tensorstate_gpu", "warm-up", str(folder)]
    for compiled in (True, False):
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("0 kernels compiled") != compiled
    assert f"Set NUMBA_CACHE_DIR to {folder}" in done.stdout
    shutil.move(folder, copied)
    loaded, compiled = numbers_of(CAPTURES, NUMBA_CACHE_DIR=str(copied))
    assert loaded > 20
    assert not compiled
