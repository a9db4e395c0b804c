"""Passes that fail: a store says of them what the report of the run has said."""

import contextlib
import sys

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.module_log import ModuleLog
from tensorstate_gpu.bridges.pytorch.pass_counter import PassCounter
from tensorstate_gpu.store.folder import Folder
from tests.support.full_disk import Disk

ERRORS = (ValueError, KeyboardInterrupt)
ONE_FAILED = "2 of 3 passes, 1 failed"


class Net(torch.nn.Module):
    """A model whose passes fail between two layers, if there is an error."""

    error = None

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(6, 8), torch.nn.Linear(8, 8)

    def forward(self, x):
        x = self.first(x)
        if self.error is not None:
            raise self.error()
        return self.second(x)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


def run_pass(model, error=None):
    model.error = error
    model(torch.randn(4, 6))


def run_passes(model, error):
    """Three passes, of which the last fails."""
    for each in (None, None, error):
        with contextlib.suppress(*ERRORS):
            run_pass(model, each)


def of_a_block(model, path, keep, error):
    with ts.capture(model, "Linear", storage_path=path, keep=keep) as run:
        run_passes(model, error)
    return run


def closed(model, path, keep, error):
    ts.build_efficiency_model(model, "Linear", storage_path=path, keep=keep)
    run_passes(model, error)
    run = ts.Run(model.efficiency_layers)
    run.close()
    return run


def committed(model, path, keep, error):
    store = ts.Store(path, "x")
    ts.build_efficiency_model(model, "Linear", storage_path=store, keep=keep)
    run_passes(model, error)
    store.commit()
    return ts.Run(model.efficiency_layers)


def passes_of(layers):
    return [(each.instance_count, each.passes, each.failed_passes) for each in layers.values()]


@pytest.mark.parametrize("capture", [of_a_block, closed, committed])
@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("error", ERRORS)
def test_the_last_pass_fails(capture, keep, error, model, tmp_path):
    run = capture(model, tmp_path / "run", keep, error)
    told = run.report().summary()
    assert ("second_post_states", ONE_FAILED) in told
    assert ts.Store(tmp_path / "run").report().summary() == told


@pytest.mark.parametrize("error", ERRORS)
def test_a_pass_that_fails_behind_all_layers_and_ends_the_block(error, model, tmp_path):
    """Nothing of it is taken back: all layers have seen it."""
    with (
        contextlib.suppress(error),
        ts.capture(model, "first", storage_path=tmp_path / "run") as run,
    ):
        run_pass(model)
        run_pass(model, error)
    assert passes_of(run) == passes_of(ts.Store(tmp_path / "run")) == [(8, (2, 2), 1)]


def test_a_commit_in_the_middle_of_a_pass_says_nothing_of_it(model, tmp_path):
    store = ts.Store(tmp_path / "run", "x")
    model.second.register_forward_pre_hook(lambda *_: store.commit())
    with store, ts.capture(model, "Linear", storage_path=store):
        for passes in range(3):
            run_pass(model)
            first = ts.Store(tmp_path / "run")[0]
            expected = (passes, passes) if passes else None
            assert (first.passes, first.failed_passes) == (expected, 0)


# ---- passes that are taken back ----------------------------------------------------------------


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_pass_that_the_store_takes_back_was_none(keep, error, model, tmp_path):
    """Not a block of capture(), which ends where the store does."""
    with contextlib.suppress(error), ts.Store(tmp_path / "run", "x") as store:
        ts.build_efficiency_model(model, storage_path=store, keep=keep)
        run_pass(model)
        run_pass(model, error)
    run, stored = ts.Run(model.efficiency_layers), ts.Store(tmp_path / "run")
    assert passes_of(run) == passes_of(stored) == [(4, (1, 1), 0)] * 2
    assert run.report().summary() == stored.report().summary()


def break_a_pass_on_a_full_disk(model, store, disk, runs, keep):
    with ts.capture(model, storage_path=store, keep=keep) as run:
        runs.append(run)
        run_pass(model)
        run_pass(model)
        disk.room = 0
        with contextlib.suppress(OSError):
            store.commit()
        run_pass(model, KeyboardInterrupt)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_nor_is_it_one_if_taking_it_back_fails(keep, model, tmp_path, monkeypatch):
    monkeypatch.setattr(Folder, "system", disk := Disk())
    runs = []
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        with pytest.raises(OSError, match="No space left"):
            break_a_pass_on_a_full_disk(model, store, disk, runs, keep)
        disk.room = sys.maxsize
    assert passes_of(runs[0]) == passes_of(ts.Store(tmp_path / "run")) == [(8, (2, 2), 0)] * 2


def test_what_comes_after_a_pass_that_was_taken_back_is_counted():
    """By each layer: one of them may have seen nothing of that pass."""
    counter = PassCounter()
    times, logs = counter.times, [ModuleLog(counter), ModuleLog(counter)]
    for breaks in (False, True, True, False):
        time = times.begin()
        for log in logs[: 2 - breaks]:
            log.note_run(time)
        if breaks:
            for log in logs:
                log.leave_out_failed_pass()
                log.leave_out_failed_pass()  # as of two blocks that an error ends
            logs[0].note_run(time)  # a batch that was on its way
        else:
            times.end(time)
    for log in logs:
        assert (log.passes(), log.failed(), log.in_pass()) == ((2, 2), 0, False)
        assert log.passes(ended=True) == (2, 2)
        assert not log.is_shared()
        assert log.of_later_call().passes() == (0, 2)
