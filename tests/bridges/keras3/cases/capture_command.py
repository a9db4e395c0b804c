"""The command `tensorstate capture` on models of each backend."""

import sys
import types

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tests.bridges.keras3.cases.models import convolutional


@pytest.fixture
def mine(images, monkeypatch, tmp_path):
    """The user's module; their folder is the current one."""
    module = types.ModuleType("mine")
    module.model, module.images, module.labels = convolutional(), images, np.arange(50) % 3
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    return module


def captured(*more):
    return main(["capture", "mine:model", "--inputs", "mine:images", "--store", "run.zarr", *more])


@pytest.mark.each_process
def test_a_model_of_keras(mine, capsys):
    assert captured("--labels", "mine:labels", "--attach", "conv", "--batch-size", "20") == 0
    with ts.capture(mine.model, "conv") as run:
        mine.model.predict(mine.images, verbose=0)
    stored = ts.Store("run.zarr")["conv"]
    np.testing.assert_array_equal(stored[:], run["conv"].raw_states)
    assert {label: each.total for label, each in stored.counts_by().items()} == {
        label: each.total for label, each in run["conv"].counts_by(mine.labels).items()
    }
    assert "conv_states, by label" in capsys.readouterr().out


def test_going_on(mine):
    assert captured("--limit", "21", "--attach", "conv") == 0
    assert captured("--attach", "conv") == 0
    assert ts.Store("run.zarr")["conv"].instance_count == 50


def test_the_device_of_a_keras_model(mine, capsys):
    assert captured("--device", "cpu") == 2
    assert "--device is for PyTorch" in capsys.readouterr().err
