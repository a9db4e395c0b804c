"""States that belong to no known input: they are counted, and nothing is made up about them."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._layers.batches import unassigned
from tests.support.points import new_point, rows_of

ROWS = rows_of(30)


def recorded(where=None, keep="states", inputs=4, labels=None):
    """A point with 3 instances of 2 states, 7 states of some instances, and one instance of 5."""
    point = new_point(where, keep=keep)
    point.labels(None if labels is None else labels[:3])
    point.intake.record(ROWS[:6], 16, 1, 3)
    point.labels(None if labels is None else labels[3 : 3 + (inputs or 0)])
    batches = unassigned(7, inputs)
    point.intake.record(ROWS[6:13], 16, 1, batches, inputs_unknown="inputs lost at nonzero")
    point.labels(None if labels is None else labels[-1:])
    point.intake.record(ROWS[13:18], 16, 1, 1)
    return point


@pytest.fixture(params=["memory", "counts", "store", "copy", "saved"])
def layer(request, tmp_path):
    """A layer as recorded() makes it, kept in different ways."""
    labels = list("abcdefgh")
    if request.param == "store":
        with ts.Store(tmp_path / "run", "x") as store:
            recorded(store, labels=labels)
        return ts.Store(tmp_path / "run")["layer"]
    point = recorded(keep="counts" if request.param == "counts" else "states", labels=labels)
    if request.param == "copy":
        return pickle.loads(pickle.dumps(point))
    if request.param == "saved":
        ts.Run([point]).save(tmp_path / "saved")
        return ts.Store(tmp_path / "saved")["layer"]
    return point


def test_all_are_counted_and_none_have_labels(layer):
    assert (layer.instance_count, layer.state_count) == (8, 18)
    assert layer.histogram() == ts.count_states(ROWS[:18], 16)
    with pytest.raises(ts.errors.LabelsMissing, match="layer: 7 of 18 states belong to no known"):
        layer.counts_by()
    with pytest.raises(ts.errors.InputsUnknown, match="belong to no known input"):
        layer.states_per_instance()


def test_a_selection_is_exact_or_refused(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        recorded(store)
    for layer in (recorded(), ts.Store(tmp_path / "run")["layer"]):
        for index, rows in (
            ([0, 2], [*range(2), *range(4, 6)]),
            ([7, 0], [*range(2), *range(13, 18)]),
            (slice(3, 7), range(6, 13)),  # all that the rows may belong to
            (slice(None), range(18)),
        ):
            assert layer.histogram(index) == ts.count_states(ROWS[list(rows)], 16)
        for index in ([3], slice(3, 6), [3, 3, 4, 5, 6]):
            with pytest.raises(ts.errors.InputsUnknown, match="7 of 18 states belong to no known"):
                layer.histogram(index)
        with pytest.raises(ts.errors.InputsUnknown):
            layer.counts_by([0] * 8)


def test_an_error_says_why(tmp_path):
    point = recorded()
    with pytest.raises(ts.errors.InputsUnknown, match=r"\(inputs lost at nonzero\)"):
        point.counts_by()


@pytest.mark.parametrize("where", ["memory", "store"])
def test_an_unknown_number_of_inputs(where, tmp_path):
    if where == "store":
        with ts.Store(tmp_path / "run", "x") as store:
            recorded(store, inputs=None)
        layer = ts.Store(tmp_path / "run")["layer"]
    else:
        layer = recorded(inputs=None)
    assert layer.histogram() == ts.count_states(ROWS[:18], 16)
    for read in (
        lambda: layer.instance_count,
        lambda: layer.histogram([0]),
        lambda: ts.Run([recorded(inputs=None)]).instance_count,
    ):
        with pytest.raises(ts.errors.InputsUnknown, match="number of inputs is not known"):
            read()
    instances = layer.to_arrow()["instance"].to_pylist()
    assert instances == [0, 0, 1, 1, 2, 2] + [None] * 12


def test_one_input_has_all_rows():
    point = new_point()
    point.intake.record(ROWS[:7], 16, 1, unassigned(7, 1))
    assert point.histogram([0]) == ts.count_states(ROWS[:7], 16)


def test_an_export_has_no_instance_for_them():
    table = recorded(labels=list("abcdefgh")).to_arrow()
    assert table.column_names == ["instance", "state"]
    assert table["instance"].type == pa.int64()
    assert table["instance"].to_pylist() == [0, 0, 1, 1, 2, 2] + [None] * 7 + [7] * 5


def test_a_store_is_resumed_and_verified(tmp_path):
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        point = recorded(store)
        store.commit()
        point.intake.record(ROWS[18:21], 16, 1, unassigned(3, 2))
    with ts.Store(tmp_path / "run", "a") as store:
        point = ts.CapturePoint("layer", store)
        assert point.instance_count == 10
        point.intake.record(ROWS[21:24], 16, 1, unassigned(3, 2))
        point.intake.record(ROWS[24:26], 16, 1, 2)
    store = ts.Store(tmp_path / "run")
    assert store.verify().good
    layer = store["layer"]
    expected = ((3, 2), (4, -7), (1, 5), (2, -3), (2, -3), (2, 1))
    assert layer.snapshot()[1].batches == expected
    assert layer.histogram([0, 12]) == ts.count_states(ROWS[[0, 1, 24]], 16)
    (described,) = store.info()["layers"]
    assert (described["instances"], described["unassigned_rows"]) == (14, 13)
    assert described["states_per_instance"] is None


def test_units_are_kept_next_to_labels(tmp_path):
    units = np.array([7, 7, 9])
    with ts.Store(tmp_path / "run", "x") as store:
        point = new_point(store)
        point.append(ROWS[:6], 3, ["a", "b", "a"], units)
        point.append(ROWS[6:8], 1, ["c"], [9])
    memory = new_point()
    memory.append(ROWS[:6], 3, ["a", "b", "a"], units)
    memory.append(ROWS[6:8], 1, ["c"], [9])
    ts.Run([memory]).save(tmp_path / "saved")
    stored = ts.Store(tmp_path / "run")
    assert stored.verify().good
    layers = (
        memory,
        pickle.loads(pickle.dumps(memory)),
        point,
        stored["layer"],
        ts.Store(tmp_path / "saved")["layer"],
    )
    for layer in layers:
        np.testing.assert_array_equal(layer.units(), [7, 7, 9, 9])
        assert list(layer.counts_by()) == ["a", "b", "c"]
        table = layer.to_arrow()
        assert table["unit"].to_pylist() == [7, 7, 7, 7, 9, 9, 9, 9]
        assert table["label"].to_pylist() == list("aabbaacc")
    assert stored.info()["layers"][0]["units"] == 4


def test_units_that_are_missing_or_not_kept(tmp_path):
    point = new_point()
    point.append(ROWS[:2], 2, units=["u", "v"])
    point.append(ROWS[:2], 2)
    with pytest.raises(ts.errors.LabelsMissing, match="2 of 4 instances were captured without un"):
        point.units()
    counts = new_point(keep="counts")
    counts.append(ROWS[:2], 2, units=["u", "v"])
    with pytest.raises(ts.errors.RowsNotKept):
        counts.units()
    with pytest.raises(TypeError, match="units must be integers or strings"):
        point.append(ROWS[:2], 2, units=[0.5, 1])
    with ts.Store(tmp_path / "run", "a") as store:
        stored = new_point(store)
        stored.append(ROWS[:2], 2, units=["u", "v"])
        with pytest.raises(TypeError, match="units in this store are strings, got integers"):
            stored.append(ROWS[:2], 2, units=[1, 2])
    with ts.Store(tmp_path / "run", "a") as store:
        ts.CapturePoint("layer", store).append(ROWS[:2], 2, units=["w", "x"])
    assert ts.Store(tmp_path / "run")["layer"].units().tolist() == ["u", "v", "w", "x"]


def test_rows_of_an_unknown_number_of_inputs_are_committed(tmp_path):
    point = new_point(tmp_path / "run")
    point.record(rows_of(5), 16, 1, unassigned(5, None))
    point.flush()
    assert ts.Store(tmp_path / "run")["layer"].state_count == 5
    point.record(rows_of(3), 16, 1, unassigned(3, None))
    point.close()
    assert ts.Store(tmp_path / "run")["layer"].histogram().total == 8
