"""Programs that end while the disk is full: what is told, what is kept, and their status."""

import subprocess
import sys
from pathlib import Path

import pytest

import tensorstate_gpu as ts

PROGRAM = """
import atexit, sys
import torch
import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import Folder

full_disk = {}  # apart from what is below, which its errors would keep alive
exec('''
import errno, os
from tensorstate_gpu.store.folder import FileSystemCalls

class Full(FileSystemCalls):
    def write(self, path, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
''', full_disk)

atexit.register(lambda: print("functions at exit ran"))
path, keep, how = sys.argv[1:]
log = open(path + ".log", "w")  # which nobody closes
log.write("a line of the program")
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3))

def inputs(fill):
    net(torch.randn(20, 4))
    store.commit()
    if fill:
        Folder.system = full_disk["Full"]()
    for _ in range(3):
        net(torch.randn(20, 4))

if how == "in blocks":
    with ts.Store(path, "x") as store, ts.capture(net, "Linear", storage_path=store, keep=keep):
        inputs(True)
store = ts.Store(path, "x", commit_seconds=None)
run = ts.capture(net, "Linear", storage_path=store, keep=keep)
run.__enter__()
inputs(how != "has room")
print("the end")
if how == "sys.exit":
    sys.exit(0)
if how == "error":
    raise SystemError("on purpose")
"""


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("how", ["has room", "the end", "sys.exit", "error", "in blocks"])
def test_a_program_that_ends_while_the_disk_is_full(how, keep, tmp_path):
    path = tmp_path / "run.zarr"
    command = [sys.executable, "-c", PROGRAM, path, keep, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    status = {"has room": 0, "error": 1, "in blocks": 1}.get(how, 120)
    assert (done.returncode, "functions at exit ran" in done.stdout) == (status, True)
    assert Path(f"{path}.log").read_text() == "a line of the program"
    assert ("the end\n" in done.stdout) == (how != "in blocks")
    inputs = 80 if how == "has room" else 20
    assert [layer.instance_count for layer in ts.Store(path).values()] == [inputs] * 2
    if how == "has room":
        assert done.stderr == ""
        return
    told = done.stderr.splitlines()
    assert told[-1].startswith("captured states could not be written: OSError: [Errno 28] No space")
    assert told[-1].endswith(
        f"{path} keeps the first 20 of 80 inputs that it had committed; mode='a' goes on with it"
    )
    assert "Group" not in done.stderr
    if how in ("the end", "sys.exit"):
        assert len(told) == 1
    if how == "in blocks":  # the error goes up through both blocks, and is told once
        assert done.stderr.count("Traceback") == 1


SEVERAL = """
import errno, sys
import torch
import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import FileSystemCalls, Folder

class Full(FileSystemCalls):
    def write(self, path, parts):
        if "full" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, parts)

net = torch.nn.Sequential(torch.nn.Linear(4, 9))
runs = [
    ts.capture(net, "Linear", storage_path=f"{sys.argv[1]}/{name}-{number}")
    for name in ("full", "room") for number in range(3)
]
for run in runs:
    run.__enter__()
net(torch.randn(20, 4))
Folder.system = Full()
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_all_other_stores_are_written_if_an_error_cannot_be_told(tmp_path):
    """The file that takes the messages is on a full disk, too."""
    with Path("/dev/full").open("w") as messages:
        command = [sys.executable, "-c", SEVERAL, tmp_path]
        done = subprocess.run(command, stderr=messages, timeout=1200, check=False)
    assert done.returncode == 120
    for number in range(3):
        (layer,) = ts.Store(tmp_path / f"room-{number}").values()
        assert layer.instance_count == 20
