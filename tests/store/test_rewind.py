"""Store.rewind(): a store forgets its last inputs, also while it is captured into."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import Folder
from tests.support import store_runs
from tests.support.points import new_point, rows_of
from tests.support.samples import sample, sweep
from tests.support.store_runs import (
    INSTANCES,
    LABELS,
    NEURONS,
    REWOUND,
    Capture,
    CountingSystem,
    committed_instances,
    rows_of_layer,
    small_chunks,  # noqa: F401 a fixture
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_chunks):  # noqa: F811
    path = tmp_path_factory.mktemp("finished") / "run.zarr"
    Capture(path).run()
    return path


@pytest.fixture
def path(finished, quick_path):
    shutil.copytree(finished, quick_path)
    return quick_path


def test_many_chunks_are_forgotten_without_listing_them_for_each(monkeypatch, tmp_path):
    """A store of 400 GB has 100,000: to read all their names for each of them takes an hour."""
    with ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None, chunk_bytes=64) as store:
        new_point(store, neurons=8).append(rows_of(64 * 300, 8), 64 * 300)
    names_read, listdir = [], os.listdir

    def counting(*args):
        names_read.extend(found := listdir(*args))
        return found

    with ts.Store(tmp_path / "run.zarr", "a", commit_seconds=None) as store:
        monkeypatch.setattr(os, "listdir", counting)
        store.rewind(64)
        monkeypatch.undo()
    assert len([*(tmp_path / "run.zarr/layer/c").iterdir()]) == 1
    assert len(names_read) <= 2 * 300


def test_training_goes_on_from_a_checkpoint(tmp_path):
    """30 steps of 32 inputs, interrupted in the 17th, after the checkpoint of the 10th."""
    path, saved = tmp_path / "run.zarr", tmp_path / "checkpoint.pt"
    torch.manual_seed(0)
    data = torch.randn(30, 32, 4)

    def train(steps, interrupted_in=None):
        model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU())
        begun = torch.load(saved) if saved.exists() else {"step": 0, "inputs": 0}
        with (
            ts.Store(path, "a", commit_seconds=None) as store,
            ts.capture(model, "Linear", storage_path=store) as run,
        ):
            store.rewind(begun["inputs"])
            for step in range(begun["step"] + 1, steps + 1):
                model(data[step - 1])
                if step == interrupted_in:
                    raise KeyboardInterrupt  # after the forward pass
                if step == 10:
                    store.commit()
                    torch.save({"step": step, "inputs": run.instance_count}, saved)

    with pytest.raises(KeyboardInterrupt):
        train(30, interrupted_in=17)
    assert ts.Store(path)["0_post_states"].instance_count == 17 * 32
    train(30)
    assert ts.Store(path)["0_post_states"].instance_count == 960
    assert ts.Store(path).verify().good


@pytest.mark.parametrize("instances", [0, 1, 5, 11, REWOUND, 13, 24, 33, INSTANCES])
def test_the_first_inputs_stay(path, instances):
    with ts.Store(path, "a") as store:
        store.rewind(instances)
        assert {layer.instance_count for layer in store.efficiency_layers} == {instances}
    assert committed_instances(path) == instances
    found = ts.Store(path).verify()
    assert (found.problems, found.orphans) == ([], [])


def test_a_capture_goes_on_after_rewinding(path):
    store_runs.rewind(path)
    assert committed_instances(path) == REWOUND
    Capture(path).run()
    store_runs.check_finished(path)
    assert ts.Store(path).verify().orphans == []


@pytest.mark.parametrize("instances", [0, 7, 33])
def test_capture_points_follow(path, instances):
    """Those of an open store go on from there, with chunks and labels in memory or written."""
    with ts.Store(path, "a", commit_seconds=None) as store:
        points = {name: ts.CapturePoint(name, store) for name in NEURONS}
        for last in (instances + 5, INSTANCES, INSTANCES):
            store.rewind(instances)
            for name, point in points.items():
                assert point.instance_count == instances
                expected = rows_of_layer(name, 0, instances)
                if instances:
                    np.testing.assert_array_equal(point.raw_states, expected)
                if point.neurons is None:
                    point.declare(NEURONS[name], 1)
                for first in range(instances, last):
                    rows = rows_of_layer(name, first, first + 1)
                    point.append(rows, 1, LABELS[first : first + 1])
            store.commit()
            assert committed_instances(path) == last
    store_runs.check_finished(path)
    assert ts.Store(path).verify().good
    for name in NEURONS:  # what zarr clients see
        shape = json.loads((path / name / "zarr.json").read_text())["shape"]
        assert shape[0] == len(rows_of_layer(name))


def test_an_array_that_was_deleted_is_described_before_it_has_chunks(path):
    """A kill between a record and the zarr.json of its arrays would else lose them."""
    with ts.Store(path, "a", commit_seconds=None) as store:
        point = ts.CapturePoint("conv", store)
        store.rewind(0)
        assert not (path / "conv").exists()
        point.append(rows_of_layer("conv"), INSTANCES)
        store.session.writer._background.wait()
        assert (path / "conv/c/0/0").exists()
        assert (path / "conv/zarr.json").exists()


def test_layers_of_different_inputs_are_brought_into_step(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        for name, count in (("a", 7), ("b", 5)):
            new_point(store, name).append(rows_of(count), count)
    with ts.Store(tmp_path / "run", "a") as store:
        store.rewind(5)
    counts = [layer.instance_count for layer in ts.Store(tmp_path / "run").efficiency_layers]
    assert counts == [5, 5]


class Sometimes(torch.nn.Module):
    """Its second layer runs in every other pass."""

    def __init__(self):
        super().__init__()
        self.always, self.sometimes = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.always(x)
        return self.sometimes(x) if self.calls % 2 else x


def test_layers_that_do_not_always_run_have_numbers_of_their_own(tmp_path):
    path, model = tmp_path / "run", Sometimes()
    with ts.capture(model, "Linear", storage_path=path):
        for _ in range(5):
            model(torch.ones(10, 4))
    with ts.Store(path, "a") as store:
        with pytest.raises(ValueError, match=r"'sometimes_post_states'\] ran in some passes only"):
            store.rewind(20)
        store.rewind({"always_post_states": 20, "sometimes_post_states": 10})
        with pytest.raises(ValueError, match="must have a number for each of the layers"):
            store.rewind({"always_post_states": 20})
    assert [layer.instance_count for layer in ts.Store(path).efficiency_layers] == [20, 10]


def test_inputs_that_cannot_be_told_apart(tmp_path):
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        for name, batches in {"a": ((4, 2), (6, -9)), "b": ((4, 2), (6, 1))}.items():
            rows = sum(-each if each < 0 else number * each for number, each in batches)
            ts.CapturePoint(name, store).record(rows_of(rows), 16, 1, batches)
        store.commit()
        before = store.record
        with pytest.raises(ts.errors.InputsUnknown, match="'a' has 9 states of no known input"):
            store.rewind(5)
        with pytest.raises(ValueError, match="'a' has 10 inputs, so it cannot be rewound to 11"):
            store.rewind(11)
        with pytest.raises(ValueError, match="instances must be 0 or more, got -1"):
            store.rewind(-1)
        with pytest.raises(TypeError, match="instances must be an integer, got float"):
            store.rewind(2.0)
        assert store.record == before
        store.rewind(4)
    assert [layer.state_count for layer in ts.Store(tmp_path / "run").efficiency_layers] == [8, 8]


def test_a_number_of_inputs_that_nobody_knows(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        ts.CapturePoint("experts", store).record(rows_of(9), 16, 1, ((0, -9),))
        with pytest.raises(ts.errors.InputsUnknown, match="inputs of 'experts' is not known"):
            store.rewind(4)


def test_labels_of_some_inputs_stay_incomplete(tmp_path):
    """It is not known which inputs have them, also if as many inputs are left as labels."""
    with ts.Store(tmp_path / "run", "x") as store:
        point = new_point(store)
        point.append(rows_of(5), 5)
        point.append(rows_of(10), 10, np.arange(10))
        store.rewind(10)
        with pytest.raises(ts.errors.LabelsMissing):
            point.counts_by()
    with pytest.raises(ts.errors.LabelsMissing, match="1 of 10 instances"):
        ts.Store(tmp_path / "run")["layer"].counts_by()


def test_a_store_that_is_read_is_not_rewound(path):
    with pytest.raises(ValueError, match="opened to be read"):
        ts.Store(path).rewind(5)


@sweep
def test_failing_operations_are_told(every, path, finished, monkeypatch):
    """The store has all inputs then, or is rewound; the next call does the rest."""
    monkeypatch.setattr(Folder, "system", Folder.system)  # put back afterwards
    with ts.Store(path, "a", commit_seconds=None) as store:
        system = CountingSystem(lambda *_: None).install(path)
        store.rewind(REWOUND)
        operations = system.number
    for k in sample(range(1, operations + 1), 8, every):
        shutil.rmtree(path)
        shutil.copytree(finished, path)

        def before(number, operation, file, k=k):
            if number == k and operation != "unlink":
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))

        with ts.Store(path, "a", commit_seconds=None) as store:
            CountingSystem(before).install(path)
            points = [ts.CapturePoint(name, store) for name in NEURONS]
            try:
                store.rewind(REWOUND)
            except OSError:
                assert committed_instances(path) in (REWOUND, INSTANCES)
                store.rewind(REWOUND)
            for point in points:
                rows = rows_of_layer(point.name, REWOUND, INSTANCES)
                point.intake.record(rows, NEURONS[point.name], 1, batches_of(point.name))
        assert committed_rows(path) == {name: len(rows_of_layer(name)) for name in NEURONS}


def batches_of(name):
    return tuple((1, int(each)) for each in store_runs.LENGTHS[name][REWOUND:])


def committed_rows(path):
    return {layer.name: layer.state_count for layer in ts.Store(path).efficiency_layers}


def test_an_error_after_the_record_closes_the_store(path, monkeypatch):
    """What is in memory then follows no record, so it must not be committed."""
    store = ts.Store(path, "a", commit_seconds=None)
    point = ts.CapturePoint("conv", store)

    def fail(*_):
        raise OSError(errno.EIO, "no chunk")

    monkeypatch.setattr("tensorstate_gpu.store.layer_writer.LayerWriter.rewind", fail)
    with pytest.raises(OSError, match="no chunk"):
        store.rewind(REWOUND)
    with pytest.raises(ts.errors.StoreClosed, match="is closed"):
        point.append(rows_of_layer("conv", 0, 1), 1)
    store.close()
    assert committed_instances(path) == REWOUND
