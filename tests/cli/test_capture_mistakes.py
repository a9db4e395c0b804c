"""The command `tensorstate capture` with mistakes, full disks and code that fails."""

import errno
import os
import re
import subprocess
import sys

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.model_calls import check_device
from tensorstate_gpu.store.folder import FileSystemCalls, Folder

pytestmark = pytest.mark.usefixtures("users_folder")

MISTAKES = {
    "no colon": (("mine",), "'mine' is no name of the form package.module:object"),
    "a path": (("./mine:model",), "'./mine:model' is no name of the form package.module:object"),
    "an empty part": (("mine..inner:model",), "'mine..inner:model' is no name of the form"),
    "a file": (("mine.py:model",), " nor installed: 'mine' is the name of mine.py"),
    "no module": (("nowhere:model",), "there is no module 'nowhere', neither in "),
    "no package": (("no.where:model",), "there is no module 'no.where', neither in "),
    "no submodule": (("mine.inner:model",), "there is no module 'mine.inner', neither in "),
    "no attribute": (("mine:nothing",), "mine has no 'nothing'; it has os, time, np, torch, "),
    "no model": (("mine:number",), "mine:number: model must be a Keras model or a torch.nn.Module"),
    "a function that returns none": (("mine:loader",), "mine:loader: model must be a Keras model"),
    "no layer": (("mine:model", "--attach", "C*"), "['C*'] matches no layer; there are: 0 (Linea"),
    "no inputs": (("mine:model", "--inputs", "mine:no_images"), "--inputs has no inputs"),
    "a number": (("mine:model", "--inputs", "mine:number"), "--inputs must be an array or an iter"),
    "numbers": (("mine:model", "--inputs", "mine:names"), "a dict of arrays, got str"),
    "pairs": (("mine:model", "--inputs", "mine:pairs"), "a batch is a list of 2: --labels from-ba"),
    "no pairs": (
        ("mine:model", "--inputs", "mine:loader", "--labels", "from-batches"),
        "takes batches that are pairs (inputs, labels), got list of 1",
    ),
    "an array of pairs": (
        ("mine:model", "--labels", "from-batches"),
        "--labels from-batches needs an iterable of batches, got an array",
    ),
    "a label": (("mine:model", "--labels", "mine:number"), "--labels must be an array or a list"),
    "few labels": (("mine:model", "--labels", "mine:few_labels"), "there are 40 labels, and more"),
    "many labels": (("mine:model", "--labels", "mine:many_labels"), "60 labels, and 50 inputs"),
    "no labels": (("mine:model", "--labels", "mine:images"), "--labels must be integers or stri"),
    "uneven": (("mine:model", "--inputs", "mine:uneven"), "the same length, got 50 of x, 30"),
    "no folder": (("mine:model", "--html", "none/page.html"), "none/page.html"),
    "a page within a file": (("mine:model", "--html", "mine.py/page.html"), "mine.py/page.html"),
    "limit": (("mine:model", "--limit", "0"), "--limit must be at least 1, got 0"),
    "batch size": (("mine:model", "--batch-size", "0"), "--batch-size must be at least 1, got 0"),
    "a page in the way": (("mine:model", "--html", "mine.py"), "mine.py exists; it is not overwri"),
    "a file in the way": (("mine:model", "--store", "mine.py"), "mine.py"),
    "a folder in the way": (("broken:model", "--store", "."), ". is a folder with other content; "),
    "a store within a file": (("mine:model", "--store", "mine.py/run"), "mine.py"),
    "an unknown device": (("mine:model", "--device", "gpu"), "--device gpu: PyTorch cannot use it"),
    "no such device": (("mine:model", "--device", "cuda:99"), "--device cuda:99: PyTorch cannot "),
    "no numbers": (("mine:model", "--device", "meta"), "--device meta: PyTorch cannot use it "),
    "the device first": (("broken:model", "--device", "gpu"), "--device gpu: PyTorch cannot use "),
}  # fmt: skip


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(arguments, refused, users_folder):
    given, said = arguments
    inputs = () if "--inputs" in given else ("--inputs", "mine:images")
    store = () if "--store" in given else ("--store", "run.zarr")
    assert said in refused("capture", *given, *inputs, *store)
    assert {*os.listdir()} - {"__pycache__"} == {"broken.py", "mine.py"}


def test_a_device_without_pytorch(monkeypatch):
    """Such as of a Keras model, for which no device can be given."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="--device is for PyTorch, which is not installed"):
        check_device("cpu")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_target(refused, users_folder):
    (users_folder / "locked").mkdir(mode=0o500)
    line = refused("capture", "mine:model", "--inputs", "mine:images", "--store", "locked/run.zarr")
    assert "locked" in line


@pytest.mark.long
def test_a_full_disk_is_told_in_one_line(users_folder):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))"
    program = f"{limit}; from tensorstate_gpu._cli.main import main; raise SystemExit(main())"
    command = ("capture", "mine:model", "--inputs", "mine:images", "--store", "run.zarr")
    done = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(
        r"tensorstate: \[Errno 27\] File too large: .*run\.zarr.*committed is whole", line
    )


class FullDisk(FileSystemCalls):
    def write(self, path, parts):
        if "/c/" in path.as_posix():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        super().write(path, parts)


def test_a_disk_that_is_full_during_a_capture_is_no_error_of_the_users_code(
    did, monkeypatch, small_chunks
):
    monkeypatch.setattr(Folder, "system", FullDisk())
    command = ("capture", "mine:model", "--inputs", "mine:late", "--store", "run.zarr")
    code, _, errors = did(*command)
    (line,) = errors.splitlines()
    assert code == 2
    assert re.search(r"^tensorstate: \[Errno 28\] No space left on device: .*run\.zarr", line)


def test_shuffled_inputs_cannot_go_on(did):
    command = ("capture", "mine:model", "--inputs", "mine:shuffled", "--store", "run.zarr")
    assert did(*command, "--limit", 20)[0] == 0
    code, _, errors = did(*command)
    assert code == 2
    assert "the DataLoader shuffles its inputs" in errors
    assert ts.Store("run.zarr")["0"].instance_count == 20


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("broken:model", "mine:images", "importing broken failed: ModuleNotFoundError: No module"),
        ("mine:model", "mine:breaks", "--inputs failed: KeyError: 'no more files'"),
        ("mine:model", "mine:labels", "capturing failed: "),
    ],
)
def test_errors_in_the_users_code_have_a_traceback(model, inputs, said, did):
    code, _, errors = did("capture", model, "--inputs", inputs)
    assert code == 2
    first, *_, last = errors.splitlines()
    assert first == "Traceback (most recent call last):"
    assert last.startswith(f"tensorstate: {said}")
