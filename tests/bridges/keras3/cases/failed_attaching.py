"""Attaching that fails midway: neither the model nor the store has anything of it."""

import signal

import keras
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.attachment import Attachment
from tensorstate_gpu.bridges.keras3 import models

X = np.ones((2, 4), np.float32)


@pytest.fixture
def model():
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    )


@pytest.fixture
def store(tmp_path):
    with ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None) as store:
        yield store


def assert_as_before(model, store):
    """No call is wrapped, and the store lists nothing, and takes these layers."""
    assert not any("call" in vars(layer) for layer in (model, *model.layers))
    store.commit()
    assert store.names == []
    with ts.capture(model, ["a", "b"], storage_path=store) as run:
        model(X)
    assert run.instance_count == 2
    assert store.names == ["a_states", "b_states"]


@pytest.mark.parametrize("step", ["note_axes_in_code", "count_passes", "retrace"])
def test_calls_that_cannot_be_wrapped(step, model, store, monkeypatch):
    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(models, step, fail)
        with pytest.raises(MemoryError), ts.capture(model, storage_path=store):
            pass
    assert_as_before(model, store)


@pytest.mark.parametrize("step", ["list_new_points", "_copy_compile_config"])
def test_a_model_that_cannot_be_rebuilt(step, model, store, monkeypatch):
    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(models, step, fail)
        with pytest.raises(MemoryError):
            ts.build_efficiency_model(model, storage_path=store)
    assert_as_before(model, store)


def test_interrupted_while_a_model_is_rebuilt(model, store, monkeypatch):
    tell = Attachment.tell

    def interrupted(*args):
        tell(*args)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Attachment, "tell", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ts.build_efficiency_model(model, storage_path=store)
    assert_as_before(model, store)
