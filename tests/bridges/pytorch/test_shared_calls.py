"""Calls that share a capture point count the same inputs several times: errors need units."""

import warnings

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images

SHARED = "relu_post_states: several calls in a pass share this capture point"


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.relu = nn.Linear(6, 6), nn.ReLU()

    def forward(self, x):
        return self.relu(self.fc(self.relu(x)))


def captured(merge_calls=True, units=None, **options):
    model = Twice()
    with ts.capture(model, "*", merge_calls=merge_calls, **options) as run:
        for _ in range(3):
            with run.labels([0, 1] * 20, units=units):
                model(images(40, 6))
    return run


@pytest.mark.parametrize("options", [{}, {"keep": "counts", "groups": 32}])
def test_errors_of_merged_calls_without_units_are_told(options):
    run = captured(**options)
    with pytest.warns(UserWarning, match=SHARED):
        run["relu"].estimate()
    with pytest.warns(UserWarning, match=SHARED):
        run["relu"].grouped_by()
    with pytest.warns(UserWarning, match=SHARED):
        ts.report(run)
    run["fc"].estimate()


@pytest.mark.parametrize("options", [{}, {"keep": "counts", "groups": 32}])
def test_nothing_is_told_where_units_are_known_or_calls_are_apart(options):
    for run in (captured(units=range(40), **options), captured(merge_calls=False, **options)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for point in run.values():
                point.grouped_by()
            ts.report(run)


def test_counts_alone_need_no_units():
    run = captured(keep="counts")
    assert run["relu"].efficiency() > 0
    ts.report(run)


def test_a_store_and_a_run_that_goes_on_remember_it(tmp_path):
    model, path = Twice(), tmp_path / "run.zarr"
    with ts.capture(model, "*", merge_calls=True, storage_path=path):
        model(images(40, 6))
    for _ in range(2):
        with ts.Store(path) as stored, pytest.warns(UserWarning, match=SHARED):
            stored["relu_post_states"].estimate()
        with (
            ts.Store(path, "a") as store,
            ts.capture(model, "*", merge_calls=True, storage_path=store),
        ):
            model.fc(images(40, 6))


def test_calls_in_a_pause_and_a_reset():
    model = Twice()
    with ts.capture(model, "*") as run:
        with run.paused():
            model(images(40, 6))
        with torch.no_grad():
            model(images(40, 6))
        run["relu"].estimate()
        assert not run["relu"].facts().shared
    run = captured()
    run.reset()
    assert not run["relu"].facts().shared
