"""Reports as tidy tables: a row for each layer, neuron, label, or number of repetitions."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu import reporting
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.tidy_tables import repetition_columns
from tensorstate_gpu.reporting.training_table import training_columns
from tests.support.points import point_of_numbers


@pytest.fixture
def run():
    return ts.Run(
        [
            point_of_numbers("first", [0, 1, 2, 3] * 300, 2),
            point_of_numbers("second", [0, 5, 5] * 400, 4, keep="counts"),
        ]
    )


def test_a_row_for_each_layer(run):
    report = run.report()
    table = report.to_pandas()
    assert table["layer"].tolist() == ["first", "second"]
    for name in ("states", "distinct", "entropy", "efficiency", "ceiling", "quality"):
        assert table[name].tolist() == [getattr(layer, name) for layer in report.layers]
    # Only rows, or counts by group, tell a range.
    assert table["upper"].isna().tolist() == [False, True]
    assert report.to_arrow().to_pandas().equals(table)


def test_types_do_not_depend_on_what_is_known(run):
    """None in all rows of a column would be a column of type null."""
    both, second = (ts.Run(list(each)).report() for each in (run.values(), [run["second"]]))
    assert both.to_arrow().schema == second.to_arrow().schema
    assert "null" not in map(str, second.to_arrow().schema.types)


def test_a_row_for_each_neuron(run):
    report = run.report()
    table = report.neurons_to_pandas()
    assert table["layer"].tolist() == ["first"] * 2 + ["second"] * 4
    assert table["neuron"].tolist() == [0, 1, 0, 1, 2, 3]
    assert table["fires"].tolist() == [600, 600, 800, 0, 800, 0]
    np.testing.assert_array_equal(table["rate"], [0.5, 0.5, 2 / 3, 0, 2 / 3, 0])
    assert table["entropy"].tolist() == pytest.approx([1, 1, 0.9183, 0, 0.9183, 0], abs=1e-4)
    assert report.neurons_to_arrow().to_pandas().equals(table)


def test_a_row_for_each_number_of_repetitions(run):
    report = run.report()
    table = report.repetitions_to_pandas()
    assert table.values.tolist() == [["first", 300, 4], ["second", 400, 1], ["second", 800, 1]]
    assert report.repetitions_to_arrow().to_pandas().equals(table)


def test_states_that_occur_very_often_are_tallied_too():
    counts = ts.StateCounts(np.array([[0], [1], [2]], np.uint8), [2**30, 2**30, 7], 2)
    table = repetition_columns([LayerProfile.of("often", counts)])
    assert (table["times"].tolist(), table["distinct"].tolist()) == ([7, 2**30], [1, 2])


@pytest.mark.parametrize("labels", [[0, 1], ["cat", "dog"]])
def test_a_row_for_each_label(labels):
    point = point_of_numbers("layer", [0, 1, 0, 2] * 100, 2, np.array(labels * 200))
    unlabelled = point_of_numbers("other", [0, 1], 2)
    report = ts.Run([point, unlabelled]).report(by_label=True)
    table = report.classes_to_pandas()
    assert table["layer"].tolist() == ["layer"] * 2
    assert table["label"].tolist() == labels
    assert table["distinct"].tolist() == [1, 2]
    assert table["entropy"].tolist() == [0, 1]
    assert report.classes_to_arrow().to_pandas().equals(table)


def test_half_of_a_character_in_labels_and_names():
    """Names of files on a disk may have one; Arrow's texts cannot."""
    point = point_of_numbers("layer\udc80", [0, 1, 0, 2] * 100, 2, np.array(["a", "b\ud800"] * 200))
    report = ts.Run([point]).report(by_label=True)
    table = report.classes_to_pandas()
    assert table["label"].tolist() == ["a", "b\\ud800"]
    assert table["layer"].tolist() == ["layer\\udc80"] * 2
    assert report.divergences_to_pandas()["other"].tolist() == ["b\\ud800", "a"]


def test_without_labels_the_table_is_empty(run):
    table = run.report().classes_to_pandas()
    assert len(table) == 0
    assert "entropy" in table


def test_json_has_no_profiles(run):
    assert "profiles" not in json.loads(json.dumps(run.report().as_dict()))


def test_what_takes_long_is_left_out(monkeypatch, run):
    small, _ = run.report().profiles
    assert small.cofiring.tolist() == [[600, 300], [300, 600]]
    monkeypatch.setattr("tensorstate_gpu.reporting.layer_profile.MOST_PAIRS_OF_WORDS", 4)
    assert run.report().profiles[0].cofiring is None


def test_frames_can_be_drawn_by_others(run):
    wide = run.report().neurons_to_pandas().pivot(index="layer", columns="neuron", values="rate")
    assert isinstance(wide, pd.DataFrame)
    assert wide.loc["second", 2] == pytest.approx(2 / 3)


def test_a_row_for_each_scalar_of_a_training():
    """Slashes are in names of phases and layers, too; what a user has added is left out."""
    monitor = ts.StateMonitor(model := torch.nn.Sequential(torch.nn.Linear(3, 4)), "Linear")
    log = {}
    for _ in range(2):
        model(torch.ones(5, 3))
        monitor.step()
        log[monitor.global_step] = monitor.scalars()
    monitor.remove()
    table = reporting.training_to_pandas(log)
    named = table[table["layer"].notna()]
    keys = [f"{row.phase}/{row.measure}/{row.layer}" for row in named.itertuples()]
    assert keys == [key for scalars in log.values() for key in scalars if key.count("/") == 2]
    assert table["layer"].isna().sum() == 2  # the network's efficiency
    assert table["value"].tolist() == [value for each in log.values() for value in each.values()]
    others = {7: {"a/b/dead_share/block/0": 0.5, "loss": 1.5, "eval/efficiency": 0.25}}
    assert reporting.training_to_arrow(others).to_pylist() == [
        {"step": 7, "phase": "a/b", "measure": "dead_share", "layer": "block/0", "value": 0.5},
        {"step": 7, "phase": "eval", "measure": "efficiency", "layer": None, "value": 0.25},
    ]
    assert reporting.training_to_arrow({}).schema == reporting.training_to_arrow(others).schema


def test_a_log_with_numbers_of_numpy_and_missing_ones():
    log = {10: {"train/efficiency/conv": np.float32(0.25), "train/efficiency/fc": None}}
    columns = training_columns(log)
    assert columns["layer"] == ("conv",)
    assert json.dumps(columns["value"]) == "[0.25]"
