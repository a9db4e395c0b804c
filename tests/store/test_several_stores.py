"""Several stores read as one equal one capture of everything; what does not belong is refused."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.errors import DamagedStore, NoStore, StoresDisagree, UnfinishedStore
from tensorstate_gpu.store.folder import Folder
from tests.support.closed_store import ROWS
from tests.support.labelled_store import rewrite
from tests.support.points import new_point

FORMATS = Path(__file__).parent / "formats"
INPUTS, RANKS = 90, 3
LABELS = np.arange(INPUTS) % 4
UNITS = np.arange(INPUTS) // 2


def capture(first, last, **where):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 12, 3), torch.nn.Flatten(), torch.nn.Linear(432, 30)
    )
    inputs = torch.randn(INPUTS, 1, 8, 8)
    with ts.capture(model, ["Conv2d", "Linear"], **where) as run:
        for start in range(first, last, 15):
            batch = slice(start, start + 15)
            with run.labels(LABELS[batch], units=UNITS[batch]):
                model(inputs[batch])
    return run


@pytest.fixture(scope="module")
def whole():
    return capture(0, INPUTS)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """A folder with one store for each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    for rank in range(RANKS):
        capture(30 * rank, 30 * rank + 30, storage_path=folder / f"run-{rank:05}.zarr")
    return folder


# ---- equal to one capture ------------------------------------------------------------------------


def test_measures_are_those_of_one_capture(ranks, whole):
    every = ts.open_stores(ranks / "run-*.zarr")
    assert every.names == list(whole)
    assert str(every.report(by_label=True)) == str(ts.report(whole, by_label=True))
    assert every.network_efficiency() == whole.network_efficiency()
    for name in whole:
        joined, expected = every[name], whole[name]
        assert joined.histogram() == expected.histogram() == ts.count_states(joined)
        assert joined.counts_by() == expected.counts_by()
        assert joined.counts_by(UNITS) == expected.counts_by(UNITS)
        for index in (slice(20, 70), 44, np.array([5, 89, 5]), LABELS == 2):
            assert joined.histogram(index) == expected.histogram(index)
        assert joined.estimate() == expected.estimate()
        assert joined.passes == expected.passes == (6, 6)
        assert (joined.axis, joined.neurons) == (expected.axis, expected.neurons)
        np.testing.assert_array_equal(joined.labels(), LABELS)
        np.testing.assert_array_equal(joined.units(), UNITS)


def test_rows_are_read_as_one_array(ranks, whole):
    every = ts.open_stores(sorted(ranks.iterdir()))
    for name in whole:
        joined, rows = every[name], whole[name].raw_states
        assert (joined.shape, joined.dtype, joined.ndim, len(joined)) == (
            *(rows.shape, rows.dtype, 2, len(rows)),
        )
        np.testing.assert_array_equal(np.asarray(joined), rows)
        third = len(rows) // 3
        ends = (0, 1, third - 1, third, third + 1, 2 * third, len(rows))
        for start in ends:
            for stop in ends:
                np.testing.assert_array_equal(joined[start:stop], rows[start:stop])
        assert joined.instance_count == INPUTS


def test_exports(ranks, whole, tmp_path):
    every = ts.open_stores(ranks / "run-*.zarr")
    for name in whole:
        expected = whole[name].to_arrow()
        assert every[name].to_arrow().equals(expected)
        told = []
        every[name].to_parquet(
            tmp_path / f"{name}.parquet", progress=lambda n, *_, to=told: to.append(n)
        )
        assert told[-1] == len(every[name])
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(expected)
        counts = every[name].histogram(to=tmp_path / f"{name}.counts")
        assert counts.load() == whole[name].histogram()


def test_the_order_is_the_given_one(ranks):
    places = sorted(ranks.iterdir())[::-1]
    joined = ts.open_stores(places)["0_post_states"]
    parts = [ts.Store(place)["0_post_states"][:] for place in places]
    np.testing.assert_array_equal(joined[:], np.concatenate(parts))


def test_what_it_says_of_its_stores(ranks):
    every = ts.open_stores(ts.Store(place) for place in sorted(ranks.iterdir()))
    assert (every.closed, every.unfinished, every.report().notes) == (True, [], ())
    about = every.info()
    assert [each["path"] for each in about["stores"]] == [str(store) for store in every.parts]
    assert about["layers"][1]["rows"] == about["layers"][1]["instances"] == INPUTS
    assert about["bytes"] == sum(each["bytes"] for each in about["stores"])
    done = []
    checked = every.verify(lambda *amounts: done.append(amounts))
    assert (checked.good, checked.orphans) == (True, [])
    assert done == [(k + 1, len(done)) for k in range(len(done))]
    again = pickle.loads(pickle.dumps(every))
    assert again["2"].histogram() == every["2"].histogram()
    assert repr(again) == "Stores(3 stores, 2 layers)"
    first = again.parts[0]
    assert repr(first) == f"Store({str(first)!r}, 2 layers, 1 commit)"


def test_inputs_of_different_sizes_and_stores_without_rows(tmp_path):
    batches = [((3, 2), (1, 5)), None, ((2, 5), (1, 1)), ((1, 1),)]
    point = ts.CapturePoint("layer")
    for number, sizes in enumerate(batches):
        with ts.Store(tmp_path / f"{number}", "x") as store:
            stored = ts.CapturePoint("layer", store)
            if sizes is not None:
                for each in (stored, point):
                    each.record(ROWS[: sum(n * k for n, k in sizes)], 16, 1, sizes)
    every = ts.open_stores(tmp_path / "*")
    joined = every["layer"]
    np.testing.assert_array_equal(joined[:], point.raw_states)
    assert joined.instance_count == 8
    for index in range(8):
        assert joined.histogram(index) == point.histogram(index)
    assert joined.snapshot()[1].batches == ((3, 2), (3, 5), (2, 1))


# ---- unfinished ----------------------------------------------------------------------------------


def test_unfinished_stores_are_refused_or_named(tmp_path):
    for rank in range(2):
        with ts.Store(tmp_path / f"run-{rank}", "x") as store:
            new_point(store).append(ROWS, 35)
    late = ts.Store(tmp_path / "run-2", "x")
    new_point(late).append(ROWS[:5], 5)
    late.commit()
    with pytest.raises(UnfinishedStore, match=r"1 of 3 stores are not finished: .*: /.*run-2\. "):
        ts.open_stores(tmp_path / "run-*")
    every = ts.open_stores(tmp_path / "run-*", unfinished="accept")
    assert len(every["layer"]) == 75
    assert every.closed is False
    (line,) = [line for line in str(every.report()).splitlines() if line.startswith("unfinished")]
    assert line.endswith(f"1 of 3 stores, only what they have committed is counted: {late}")
    late.close()
    assert ts.open_stores(tmp_path / "run-*").closed
    with pytest.raises(ValueError, match="unfinished must be one of"):
        ts.open_stores(tmp_path / "run-*", unfinished="ignore")


def test_stores_of_unknown_end_are_read_and_named(tmp_path):
    old = shutil.copytree(FORMATS / "format_2/integer_labels", tmp_path / "old.zarr")
    with ts.Store(tmp_path / "new.zarr", "x") as store:
        new_point(store, neurons=8).append(ROWS[:, :1].copy(), 35, np.arange(35))
    every = ts.open_stores([old, tmp_path / "new.zarr"])
    assert (every.closed, len(every["layer"])) == (None, 14 + 35)
    assert every["layer"].labels()[:3].tolist() == [7, -1, 7]
    label, text = every.report().notes[0]
    assert (label, text) == ("end unknown", f"1 of 2 stores, older versions wrote them: {old}")
    with ts.Store(tmp_path / "late.zarr", "x") as late:
        new_point(late, neurons=8).append(ROWS[:, :1].copy(), 35, np.arange(35))
        late.commit()
        assert ts.open_stores([old, str(late)], unfinished="accept").closed is False


# ---- what does not belong together ---------------------------------------------------------------


def refusal(*stores):
    with pytest.raises(StoresDisagree) as caught:
        ts.open_stores(stores)
    return str(caught.value)


@pytest.fixture
def one(tmp_path):
    with ts.Store(tmp_path / "one", "x") as store:
        new_point(store).append(ROWS, 35, np.arange(35))
    return tmp_path / "one"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"threshold": 0.5}, "layer: threshold: 0.0 in {one}, 0.5 in {other}"),
        ({"threshold": [0.5] * 16}, "layer: threshold: 0.0 in {one}, [0.5, 0.5"),
        ({"axis": 2}, "layer: neuron_axis: 1 in {one}, 2 in {other}"),
        ({"name": "dense"}, "{one} has the layer 'layer', and {other} has not"),
    ],
    ids=str,
)
def test_another_capture(changes, text, one, tmp_path):
    with ts.Store(tmp_path / "other", "x") as store:
        new_point(store, **changes).append(ROWS, 35, np.arange(35))
    assert text.format(one=one, other=tmp_path / "other") in refusal(one, tmp_path / "other")


def test_other_neurons(one, tmp_path):
    with ts.Store(tmp_path / "other", "x") as store:
        new_point(store, neurons=8).append(ROWS[:, :1].copy(), 35, np.arange(35))
    assert refusal(one, tmp_path / "other") == (
        f"layer: neurons: 16 in {one}, 8 in {tmp_path / 'other'}"
    )


def test_a_layer_more(one, tmp_path):
    with ts.Store(tmp_path / "other", "x") as store:
        for name in ("layer", "second"):
            new_point(store, name).append(ROWS, 35, np.arange(35))
    assert f"other has the layer 'second', and {one} has not" in refusal(one, tmp_path / "other")


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("routes", [["", "a"], ["a", "ab", "bb"], ["bba", None]], ids=str)
def test_stores_of_other_ways_through_a_model_have_the_calls_of_all(routes, keep, tmp_path):
    """None: a rank without inputs, which knows of no later calls."""
    states = {}
    for rank, route in enumerate(routes):
        net = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in "ab"})
        net.forward = lambda x, net=net, way=route: [net[name](x) for name in ["a", "b", *way]][-1]
        where = tmp_path / f"run-{rank}"
        with ts.capture(net, "Linear", storage_path=where, keep=keep) as run:
            if route is not None:
                net(torch.randn(6, 4))
        for name, point in run.items():
            states[name] = states.get(name, 0) + point.state_count
    every = ts.open_stores(tmp_path / "run-*")
    assert {name: layer.state_count for name, layer in every.items()} == states
    later = [name for name in states if ":" in name]
    passes = sum(route is not None for route in routes)
    for name in later:
        assert every[name].facts().passes == (states[name] // 6, passes)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_later_call_that_has_no_states_any_more_is_no_contradiction(order, tmp_path):
    net = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4)})
    net.forward = lambda x, calls=1: [net["a"](x) for _ in range(calls)][-1]
    for rank in range(2):
        with ts.capture(net, "a", storage_path=tmp_path / f"run-{rank}") as run:
            if rank == 0:
                net(torch.randn(6, 4), calls=2)
                for point in run.values():
                    point.reset_states()
            net(torch.randn(6, 4))
    every = ts.open_stores([tmp_path / f"run-{rank}" for rank in order])
    assert every.names == ["a_post_states", "a:2_post_states"]
    assert every["a"].state_count == 12
    assert "a:2" in str(every.report())


@pytest.mark.parametrize("kind", ["none", "strings"])
def test_labels_of_some_stores_only(kind, one, tmp_path):
    labels = None if kind == "none" else [f"class {k}" for k in range(35)]
    with ts.Store(tmp_path / "other", "x") as store:
        new_point(store).append(ROWS, 35, labels)
    if kind == "none":
        assert "layer: labels: some in" in refusal(one, tmp_path / "other")
        return
    joined = ts.open_stores([one, tmp_path / "other"])["layer"]
    with pytest.raises(StoresDisagree, match=r"labels are integers in .*one, strings in .*other"):
        joined.counts_by()
    assert joined.histogram().total == 70


@pytest.mark.parametrize("again", ["same", "relative", "link", "copy", "resumed copy"])
def test_a_part_counted_twice(again, one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = {"same": one, "relative": "./one"}.get(again, tmp_path / "again")
    if again == "link":
        os.symlink(one, other)
    elif "copy" in again:
        shutil.copytree(one, other)
    if again == "resumed copy":
        with ts.Store(other, "a") as store:
            new_point(store).append(ROWS, 35, np.arange(35))
    assert refusal(one, other).startswith("a part counted twice: ")


# ---- bad input -----------------------------------------------------------------------------------


def test_nothing_to_open(tmp_path, one):
    with pytest.raises(NoStore, match=r"no store matches .*/run-\*"):
        ts.open_stores(tmp_path / "run-*")
    with pytest.raises(NoStore, match="no stores were given"):
        ts.open_stores([])
    with pytest.raises(NoStore, match="missing holds no captured states: there is no such folder"):
        ts.open_stores([one, tmp_path / "missing"])
    (tmp_path / "other").mkdir()
    with pytest.raises(NoStore, match="other holds no captured states"):
        ts.open_stores(tmp_path / "o*")
    with pytest.raises(TypeError, match="path must be a str"):
        ts.open_stores(3)
    with pytest.raises(ValueError, match="only the last part of a URL may be a pattern"):
        ts.open_stores("s3://bucket/*/run.zarr")


def test_a_folder_that_a_pattern_would_match(tmp_path):
    with ts.Store(tmp_path / "run[1]", "x") as store:
        new_point(store).append(ROWS, 35)
    assert len(ts.open_stores(tmp_path / "run[1]")["layer"]) == 35


def test_a_store_of_a_later_version(one, tmp_path):
    other = shutil.copytree(one, tmp_path / "other")
    rewrite(
        other / "zarr.json",
        lambda document: document["attributes"]["tensorstate"].update(format=9, version="4.0"),
    )
    with pytest.raises(ts.errors.UnknownFormat, match=r"other has format 9.*tensorstate_gpu 4\.0"):
        ts.open_stores([one, other])


def test_a_folder_that_is_deleted_meanwhile(one, tmp_path):
    with ts.Store(tmp_path / "other", "x") as store:
        new_point(store).append(ROWS, 35, np.arange(35))
    every = ts.open_stores([one, tmp_path / "other"])
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(DamagedStore, match=r"other/layer/zarr.json is missing"):
        every["layer"].histogram()


def test_an_empty_store_among_them(one, tmp_path):
    ts.Store(tmp_path / "empty", "x").close()
    every = ts.open_stores([tmp_path / "empty", one])
    assert (len(every["layer"]), every.names, every["layer"].passes) == (35, ["layer"], None)
    with pytest.raises(ts.errors.NoCapturePoints):
        ts.open_stores(tmp_path / "empty").report()


def test_only_records_are_read_to_open_stores(tmp_path, monkeypatch):
    for number in range(20):
        with ts.Store(tmp_path / f"run-{number}", "x") as store:
            new_point(store).append(ROWS, 35)
    read = []
    whole = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, key: (read.append(key), whole(self, key))[1])
    every = ts.open_stores(tmp_path / "run-*")
    assert (len(every["layer"]), every["layer"].instance_count) == (20 * 35, 20 * 35)
    assert read == ["zarr.json"] * 20
    every["layer"][35:40]
    assert read[20:] == ["layer/zarr.json", "layer/c/0/0"]  # of one store
