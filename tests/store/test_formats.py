"""Stores that older versions wrote are read, checked, and go on; fields of newer ones do no harm.

How they were written: tests/store/formats/README.md. What is expected here is written out, and does
not come from the code that wrote them.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.labelled_store import rewrite

FORMATS = Path(__file__).parent / "formats"
LAYERS = {
    "without_labels": {
        "conv_1": {
            "neurons": 12,
            "rows": [[n, n % 3] for n in range(24)],
            "batches": ((6, 4),),
            "capture": {"neuron_axis": 1, "threshold": 0.5},
            "labels": None,
            "counts": {bytes([n, n % 3]): 1 for n in range(24)},
        },
        "block/dense é": {
            "neurons": 3,
            "rows": [[0], [1], [2], [3], [4], [0]],
            "batches": ((6, 1),),
            "capture": {"neuron_axis": -1, "threshold": 0.0},
            "labels": None,
            "counts": {b"\0": 2, b"\1": 1, b"\2": 1, b"\3": 1, b"\4": 1},
        },
    },
    "integer_labels": {
        "layer": {
            "neurons": 8,
            "rows": [[0], [1], [2], [3], [0], [1], [2], [3], [0], [1], [0], [1], [2], [3]],
            "batches": ((7, 2),),
            "capture": {"neuron_axis": 1, "threshold": 0.0},
            "labels": [7, -1, 7, 2**62, 7, 0, -1],
            "counts": {b"\0": 4, b"\1": 4, b"\2": 3, b"\3": 3},
        },
    },
    "string_labels": {
        "layer": {
            "neurons": 16,
            "rows": [[n, 255] for n in range(11)],
            "batches": ((2, 3), (3, 1), (1, 0), (1, 2)),
            "capture": {"neuron_axis": 3, "threshold": 0.0},
            "labels": ["cat", "größer", "", "cat", "two words", "none", "cat"],
            "counts": {bytes([n, 255]): 1 for n in range(11)},
        },
    },
    "never_committed": {},
}
BY_LABEL = {
    "integer_labels": {
        -1: {b"\2": 2, b"\3": 2},
        0: {b"\0": 1, b"\1": 1},
        7: {b"\0": 3, b"\1": 3},
        2**62: {b"\2": 1, b"\3": 1},
    },
    "string_labels": {
        "": {b"\6\xff": 1},
        "cat": {bytes([n, 255]): 1 for n in (0, 1, 2, 7, 9, 10)},
        "größer": {bytes([n, 255]): 1 for n in (3, 4, 5)},
        "two words": {b"\x08\xff": 1},
    },
}
COMMITS = {"without_labels": 3, "integer_labels": 2, "string_labels": 2, "never_committed": 0}
FILES = {"without_labels": 7, "integer_labels": 9, "string_labels": 13, "never_committed": 1}
LEDGER_FILES = 5  # since format 3, where instances differ in their number of states


@pytest.fixture(params=["format_2", "format_3"])
def copied(request, tmp_path):
    """The stores of one format, where they may be changed."""
    return shutil.copytree(FORMATS / request.param, tmp_path / "stores")


def as_dict(histogram):
    ids = map(bytes, histogram.packed)
    return dict(zip(ids, histogram.counts.tolist(), strict=True))


def check(layer, expected):
    assert layer.neurons == expected["neurons"]
    assert layer[:].tolist() == expected["rows"]
    assert layer.snapshot()[1].batches == expected["batches"]
    assert (layer.state_count, layer.instance_count) == (
        len(expected["rows"]),
        sum(count for count, _ in expected["batches"]),
    )
    assert layer.attributes() == expected["capture"]
    assert as_dict(layer.histogram()) == expected["counts"]
    if expected["labels"] is None:
        assert layer.committed.labels is None
    else:
        assert layer.labels().tolist() == expected["labels"]


@pytest.mark.parametrize("name", LAYERS)
def test_a_store_of_this_format_is_read(name, copied):
    store = ts.Store(copied / name)
    assert store.names == list(LAYERS[name])
    assert (store.record.version, store.record.commits) == ("0.1.0", COMMITS[name])
    for layer, expected in LAYERS[name].items():
        check(store[layer], expected)


@pytest.mark.parametrize("name", BY_LABEL)
def test_its_labels_tell_its_states_apart(name, copied):
    by_label = ts.Store(copied / name)["layer"].counts_by()
    assert {label: as_dict(found) for label, found in by_label.items()} == BY_LABEL[name]


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_whole(name, copied):
    expected = FILES[name]
    if name == "string_labels" and ts.Store(copied / name).info()["format"] > 2:
        expected += LEDGER_FILES
    assert len([file for file in (copied / name).rglob("*") if file.is_file()]) == expected
    found = ts.Store(copied / name).verify()
    assert found.good
    assert (found.problems, found.orphans) == ([], [])
    assert found.rows == sum(len(layer["rows"]) for layer in LAYERS[name].values())


@pytest.mark.parametrize("name", ["integer_labels", "string_labels"])
def test_it_goes_on(name, copied):
    expected = LAYERS[name]["layer"]
    more = np.array(expected["rows"][:3], np.uint8)
    label = expected["labels"][0]
    with ts.Store(copied / name, "a") as store:
        point = ts.CapturePoint("layer", store)
        point.declare(expected["neurons"], expected["capture"]["neuron_axis"])
        assert point.instance_count == 7
        point.append(more, 1, [label])
    store = ts.Store(copied / name)
    layer = store["layer"]
    assert layer[:].tolist() == expected["rows"] + expected["rows"][:3]
    assert layer.snapshot()[1].batches == (*expected["batches"], (1, 3))
    assert layer.labels().tolist() == [*expected["labels"], label]
    assert store.record.commits == COMMITS[name] + 1
    assert store.verify().good


def test_one_without_labels_goes_on(copied):
    expected = LAYERS["without_labels"]
    with ts.Store(copied / "without_labels", "a") as store:
        conv = ts.CapturePoint("conv_1", store, threshold=0.5)
        dense = ts.CapturePoint("block/dense é", store)
        conv.declare(12, 1)
        dense.declare(3, -1)
        conv.append(np.array([[1, 2]] * 4, np.uint8), 1)
        dense.append(np.array([[7]], np.uint8), 1)
    store = ts.Store(copied / "without_labels")
    assert store["conv_1"][:].tolist() == expected["conv_1"]["rows"] + [[1, 2]] * 4
    assert store["block/dense é"][:].tolist() == [*expected["block/dense é"]["rows"], [7]]
    assert store.verify().good


def test_one_that_was_never_committed_begins(copied):
    with ts.Store(copied / "never_committed", "a") as store:
        point = ts.CapturePoint("layer", store)
        point.declare(8, 1)
        point.append(np.array([[3], [3]], np.uint8), 2)
    assert as_dict(ts.Store(copied / "never_committed")["layer"].histogram()) == {b"\3": 2}


@pytest.mark.parametrize("name", LAYERS)
def test_fields_that_are_not_known_are_passed_over(name, copied):
    """A later version may add fields to the record without a new format."""

    def add(document):
        document["attributes"]["other"] = 1
        record = document["attributes"]["tensorstate"]
        for part in (record, *filter(None, record["layers"].values())):
            part["added"] = {"later": [1, None, "text"]}
            for inner in ("states", "labels", "capture", "ledger"):
                if part.get(inner) is not None:
                    part[inner]["added"] = "later"

    rewrite(copied / name / "zarr.json", add)
    store = ts.Store(copied / name)
    for layer, expected in LAYERS[name].items():
        capture = {**expected["capture"], "added": "later"}
        check(store[layer], {**expected, "capture": capture})
    assert store.verify().good
    for layer, expected in LAYERS[name].items():
        with ts.Store(copied / name, "a") as again:
            capture = expected["capture"]
            point = ts.CapturePoint(layer, again, threshold=capture["threshold"])
            point.declare(expected["neurons"], capture["neuron_axis"])
            assert point.state_count == len(expected["rows"])


# ---- format 4: layers that keep counts -----------------------------------------------------------


def kept_rows():
    numbers = np.arange(48)
    return np.stack([numbers % 20, numbers % 2], axis=1), np.array(["even", "odd"])[
        numbers // 2 % 2
    ]


def counted(rows):
    ids, counts = np.unique(np.asarray(rows, np.uint8), axis=0, return_counts=True)
    return dict(zip(map(bytes, ids), counts.tolist(), strict=True))


@pytest.fixture
def of_counts(tmp_path):
    return shutil.copytree(FORMATS / "format_4" / "kept_counts", tmp_path / "counts")


def test_a_store_of_counts_is_read(of_counts):
    rows, labels = kept_rows()
    store = ts.Store(of_counts)
    assert (store.record.version, store.record.format, store.record.commits) == ("0.1.0", 4, 3)
    assert as_dict(store["counted"].histogram()) == counted(rows)
    assert as_dict(store["plain"].histogram()) == counted(rows[:, :1] // 5)
    by_label = store["counted"].counts_by()
    assert {label: as_dict(found) for label, found in by_label.items()} == {
        label: counted(rows[labels == label]) for label in ("even", "odd")
    }
    grouped = store["counted"].grouped()
    assert sum(grouped.sample.by_group) == store["counted"].instance_count == 24
    assert grouped.together() == store["counted"].histogram()
    assert [len(layer.committed.counts.runs) for layer in store.efficiency_layers] == [3, 2]
    found = store.verify()
    assert (found.problems, found.orphans, found.rows) == ([], [], 96)


def test_a_store_of_counts_goes_on(of_counts):
    rows, labels = kept_rows()
    with ts.Store(of_counts, "a") as store:
        point = ts.CapturePoint("counted", store, keep="counts", groups=2)
        point.declare(12, 1)
        assert point.instance_count == 24
        point.append(rows[:4].astype(np.uint8), 2, labels[:4:2])
    store = ts.Store(of_counts)
    assert as_dict(store["counted"].histogram()) == counted([*rows, *rows[:4]])
    assert store["counted"].counts_by()["odd"].total == 26
    assert store.verify().good
