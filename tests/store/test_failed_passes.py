"""Passes that fail: a store says of them what the report of the run has said."""

from contextlib import suppress

import pytest
import torch

import tensorstate_gpu as ts


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


def run_passes(model, error):
    """Three passes, of which the last fails."""
    for each in (None, None, error):
        model.error = each
        try:
            model(torch.randn(4, 6))
        except (ValueError, KeyboardInterrupt):
            continue


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


@pytest.mark.parametrize("capture", [of_a_block, closed, committed])
@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_last_pass_fails(capture, keep, error, model, tmp_path):
    run = capture(model, tmp_path / "run", keep, error)
    told = run.report().summary()
    assert ("second_post_states", "2 of 3 passes, 1 failed") in told
    assert ts.Store(tmp_path / "run").report().summary() == told


def test_a_commit_in_the_middle_of_a_pass_says_nothing_of_it(model, tmp_path):
    store = ts.Store(tmp_path / "run", "x")
    model.second.register_forward_pre_hook(lambda *_: store.commit())
    with store, ts.capture(model, "Linear", storage_path=store):
        for passes in range(3):
            model(torch.randn(4, 6))
            seen = ts.Store(tmp_path / "run")
            assert [seen[0].passes, seen[0].failed_passes] == [
                (passes, passes) if passes else None,
                0,
            ]


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_pass_that_is_taken_back_was_none(keep, model, tmp_path):
    with suppress(KeyboardInterrupt), ts.Store(tmp_path / "run", "x") as store:
        ts.build_efficiency_model(model, "Linear", storage_path=store, keep=keep)
        model(torch.randn(4, 6))
        model.error = KeyboardInterrupt
        model(torch.randn(4, 6))
    seen = ts.Store(tmp_path / "run")
    assert [(each.instance_count, each.passes, each.failed_passes) for each in seen.values()] == [
        (4, (1, 1), 0)
    ] * 2
    assert ts.Run(model.efficiency_layers).report().summary() == seen.report().summary()
