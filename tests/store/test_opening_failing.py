"""Opening a store for writing that fails halfway: as if it had not been tried."""

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store import run_writer
from tensorstate_gpu.store import store as store_module

STEPS = [
    (run_writer, "PassesByRun"),
    (run_writer, "BackgroundWriter"),
    (run_writer, "start_threads"),
    (run_writer, "register_for_exit"),
    (store_module, "WritingSession"),
]
ERRORS = [KeyboardInterrupt, MemoryError]
ROWS = torch.arange(12).reshape(4, 3).float()


def failing(*_, **__):
    raise failing.error


def opening_that_fails(where, error, path, mode):
    failing.error = error()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*where, failing)
        with pytest.raises(error):
            ts.Store(path, mode)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", STEPS, ids=lambda step: step[1])
def test_a_new_store(where, error, tmp_path):
    path = tmp_path / "above/run"
    opening_that_fails(where, error, path, "x")
    assert list(tmp_path.iterdir()) == []
    model = torch.nn.Linear(3, 2)
    with ts.Store(path, "x") as store, ts.capture(model, storage_path=store):
        model(ROWS)
    assert ts.Store(path)[0].state_count == 4


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", STEPS, ids=lambda step: step[1])
def test_a_store_that_is_there(where, error, tmp_path):
    path = tmp_path / "run"
    model = torch.nn.Linear(3, 2)
    with ts.capture(model, storage_path=path):
        model(ROWS)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    opening_that_fails(where, error, path, "a")
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with ts.Store(path, "a") as store, ts.capture(model, storage_path=store):
        model(ROWS)
    assert ts.Store(path)[0].state_count == 8
