"""Attaching that fails midway: neither the model nor the store has anything of it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch import models
from tensorstate_gpu.store.writing_session import WritingSession


@pytest.fixture
def model():
    return torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))


@pytest.fixture
def store(tmp_path):
    with ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None) as store:
        yield store


def capture(model, *where, **how):
    with ts.capture(model, *where, **how):
        model(torch.ones(2, 4))


ATTACHING = [capture, ts.build_efficiency_model]


def assert_as_before(model, store, *names):
    """The model has no hooks, and the store only layers of these names, which take states again."""
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert not hasattr(model, "efficiency_layers")
    store.commit()
    assert store.names == [*names]
    capture(model, ["0", "1"], storage_path=store)
    assert store.names == [*names, "0_post_states", "1_post_states"]
    assert [store[name].state_count for name in store.names[-2:]] == [2, 2]


@pytest.mark.parametrize("attach", ATTACHING)
def test_a_name_that_the_store_already_has(attach, model, store):
    point = ts.CapturePoint("2_post_states", store)
    point.declare(neurons=2)
    with pytest.raises(ValueError, match="already has states of '2_post_states'"):
        attach(model, storage_path=store)
    assert_as_before(model, store, "2_post_states")


@pytest.mark.parametrize("attach", ATTACHING)
def test_hooks_that_cannot_be_put_at_the_model(attach, model, store, monkeypatch):
    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(models.PassCounter, "attach", fail)
        with pytest.raises(MemoryError):
            attach(model, storage_path=store)
    assert_as_before(model, store)


@pytest.mark.parametrize("attach", ATTACHING)
def test_a_layer_of_which_the_store_cannot_be_read(attach, model, tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    capture(model, ["0", "1"], storage_path=path)

    def fail(*_):
        raise OSError("cannot be read")

    with ts.Store(path, "a") as store:
        with monkeypatch.context() as patch:
            patch.setattr(WritingSession, "open_layer", fail)
            with pytest.raises(OSError, match="cannot be read"):
                attach(model, ["0", "1"], storage_path=store)
        capture(model, ["0", "1"], storage_path=store)
        assert [store[name].state_count for name in store.names] == [4, 4]


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_block_that_fails_before_anything_is_captured(keep, model, store):
    failure = pytest.raises(RuntimeError, match="shapes cannot be multiplied")
    with failure, ts.capture(model, storage_path=store, keep=keep):
        store.commit()
        model(torch.ones(2, 3))
    assert_as_before(model, store)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_block_whose_first_pass_breaks(keep, model, store):
    model[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), ts.capture(model, storage_path=store, keep=keep):
        model(torch.ones(2, 4))
    model[1]._forward_hooks.clear()
    assert_as_before(model, store)
    assert not store.verify().problems


def test_a_layer_of_which_an_earlier_run_captured_nothing_stays(model, tmp_path):
    with ts.Store(tmp_path / "run.zarr", "x") as store:
        ts.CapturePoint("0_post_states", store)
        point = ts.CapturePoint("1_post_states", store)
        point.declare(neurons=2)
        point.append(np.ones((3, 1), np.uint8), instances=3)
    with ts.Store(tmp_path / "run.zarr", "a") as store:
        with pytest.raises(ValueError, match="and not '2_post_states'"):
            ts.build_efficiency_model(model, ["0", "2"], storage_path=store)
        store.commit()
        assert store.names == ["0_post_states", "1_post_states"]


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("attach", ATTACHING)
@pytest.mark.parametrize("is_open", [True, False])
def test_memory_runs_out_in_a_point_that_has_its_name(
    model, store, is_open, attach, number, monkeypatch, tmp_path
):
    """Nobody else knows of the point that is half made."""
    made = []

    def fails(hook, counter):
        made.append(hook.name)
        if len(made) > number:
            raise MemoryError
        register(hook, counter)

    register = models.StateCaptureHook._register
    with monkeypatch.context() as patch:
        patch.setattr(models.StateCaptureHook, "_register", fails)
        with pytest.raises(MemoryError):
            attach(model, "Linear", storage_path=store if is_open else tmp_path / "new")
    assert_as_before(model, store)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("attach", ATTACHING)
def test_a_name_that_another_thread_claims_meanwhile_stays(attach, model, store, monkeypatch):
    points = []

    def claim():
        points.append(ts.CapturePoint("2_post_states", store))
        points[0].declare(neurons=2)

    def registers(hook, counter):
        if not points:
            with ThreadPoolExecutor() as pool:
                pool.submit(claim).result()
        register(hook, counter)

    register = models.StateCaptureHook._register
    monkeypatch.setattr(models.StateCaptureHook, "_register", registers)
    with pytest.raises(ValueError, match="already has states of '2_post_states'"):
        attach(model, "Linear", storage_path=store)
    points[0].append(np.ones((3, 1), np.uint8), instances=3)
    assert_as_before(model, store, "2_post_states")
    assert store["2_post_states"].state_count == 3


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("where", ["facts", "hook"])
def test_memory_runs_out_in_a_hook_that_is_made_by_hand(
    where, is_open, store, monkeypatch, tmp_path
):
    def fails(*_):
        raise MemoryError

    place = store if is_open else tmp_path / "new"
    with monkeypatch.context() as patch:
        if where == "hook":
            patch.setattr(ts.StateCaptureHook, "_register", fails)
        else:
            patch.setattr(WritingSession, "earlier_facts", fails)
        with pytest.raises(MemoryError):
            ts.StateCaptureHook("layer", place)
    assert not (tmp_path / "new").exists()
    layer = torch.nn.Linear(4, 4)
    hook = ts.StateCaptureHook("layer", place)
    hook.attach(layer)
    layer(torch.ones(2, 4))
    assert hook.state_count == 2


def test_a_hook_whose_name_another_has_leaves_it_to_that(store):
    first = ts.StateCaptureHook("layer", store)
    for _ in range(2):
        with pytest.raises(ValueError, match="already has states of 'layer'"):
            ts.StateCaptureHook("layer", store)
    layer = torch.nn.Linear(4, 4)
    first.attach(layer)
    layer(torch.ones(2, 4))
    assert first.state_count == 2
