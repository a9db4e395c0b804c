"""Opening a store for writing that fails halfway: as if it had not been tried."""

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store import opened_record, run_writer, shared_writing
from tensorstate_gpu.store import store as store_module

STEPS = [
    (opened_record, "uuid4"),
    (opened_record.Record, "to_bytes"),
    (run_writer, "PassesByRun"),
    (shared_writing, "BackgroundWriter"),
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


def test_a_store_whose_record_is_being_read(tmp_path, monkeypatch):
    """Before it was read, and again after the store was claimed."""
    path = tmp_path / "run"
    with ts.capture(torch.nn.Linear(3, 2), storage_path=path):
        pass
    before, read = (path / "zarr.json").read_bytes(), opened_record.Record.from_bytes
    for number in (1, 2):
        left = number

        def fails(*given):
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return read(*given)

        with monkeypatch.context() as patch:
            patch.setattr(opened_record.Record, "from_bytes", fails)
            with pytest.raises(KeyboardInterrupt):
                ts.Store(path, "a")
        assert not left
        assert (path / "zarr.json").read_bytes() == before
    ts.Store(path, "a").close()


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
