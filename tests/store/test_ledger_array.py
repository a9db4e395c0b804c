"""Ledgers of inputs of different sizes: arrays of the store, of which a commit writes the end."""

import json
import pickle
import shutil

import numpy as np
import pytest
import zarr

import tensorstate_gpu as ts
from tensorstate_gpu.store import ledger_array
from tests.support.labelled_store import rewrite
from tests.support.points import new_point, rows_of

ROWS = rows_of(40)
LENGTHS = [1 + n % 3 for n in range(50)]


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(ledger_array, "CHUNK_BYTES", 16 * 8)  # 8 batches


def append(point, lengths):
    for length in lengths:
        point.append(ROWS[: 2 * length], 2)


def committed(path, lengths):
    """A store with one commit for each five batches."""
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = new_point(store)
        for first in range(0, len(lengths), 5):
            append(point, lengths[first : first + 5])
            store.commit()
    return path


def lengths_of(layer):
    return [each for count, each in layer.snapshot()[1].batches for _ in range(count)]


def record_of(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]["tensorstate"]


def expected(lengths):
    return [length for length in lengths for _ in range(2)]


def test_a_store_has_every_length(tmp_path):
    layer = ts.Store(committed(tmp_path / "run", LENGTHS))["layer"]
    assert lengths_of(layer) == expected(LENGTHS)
    assert (layer.instance_count, layer.state_count) == (100, 2 * sum(LENGTHS))
    assert layer.committed.states_per_instance is None
    with pytest.raises(ValueError, match=r"differ in their number of states: \[1, 2, 3\]"):
        layer.states_per_instance()
    np.testing.assert_array_equal(
        layer.histogram([1, 99]).counts,
        ts.count_states(np.concatenate([ROWS[1:2], ROWS[2:4]]), 16).counts,
    )
    assert lengths_of(pickle.loads(pickle.dumps(layer))) == expected(LENGTHS)


def test_equal_lengths_need_no_array(tmp_path):
    committed(tmp_path / "run", [3] * 50)
    assert not (tmp_path / "run/_ledger").exists()
    layer = record_of(tmp_path / "run")["layers"]["layer"]
    assert (layer["ledger"], layer["batches"], layer["instances"]) == (None, [[100, 3]], 100)


def test_the_record_and_what_a_commit_writes_do_not_grow(tmp_path, monkeypatch):
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        point, written, sizes = new_point(store), [], []
        write = store._files.write
        monkeypatch.setattr(
            store._files, "write", lambda key, *parts: [written.append(key), write(key, *parts)]
        )
        for _ in range(3):
            append(point, 2 * LENGTHS)
            store.commit()
            written.clear()
            append(point, [1, 2])
            store.commit()
            sizes.append(len(written))
            assert len(record_of(tmp_path / "run")["layers"]["layer"]["batches"]) == 1
    assert max(sizes) <= min(sizes) + 1  # a chunk may have become full


def test_zarr_reads_the_ledger(tmp_path):
    group = zarr.open_group(committed(tmp_path / "run", LENGTHS), mode="r")
    array = group["_ledger/layer"]
    assert array.attrs["columns"] == ["instances", "states_per_instance"]
    assert array[:].tolist() == [[2, length] for length in LENGTHS[:-1]]
    layers = record_of(tmp_path / "run")["layers"]
    assert layers["layer"]["batches"] == [[2, LENGTHS[-1]]]


@pytest.mark.parametrize("first", [[], [3], LENGTHS[:9], LENGTHS[:20]])
@pytest.mark.parametrize("more", [[2, 2], LENGTHS[:30]])
def test_a_store_is_resumed(first, more, tmp_path):
    committed(tmp_path / "run", first)
    for _ in range(2):
        with ts.Store(tmp_path / "run", "a", commit_seconds=None) as store:
            append(new_point(store), more)
    store = ts.Store(tmp_path / "run")
    assert lengths_of(store["layer"]) == expected(first + more + more)
    assert (store.verify().problems, store.verify().orphans) == ([], [])


@pytest.mark.parametrize("committed_before", [0, 1, 7, 8, 20])
@pytest.mark.parametrize("added", [2, 12])
def test_a_pass_is_discarded(committed_before, added, tmp_path):
    """The batches of one layer are taken back, also those that a commit wrote."""
    kept = LENGTHS[:committed_before]
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        other, point = new_point(store, "other"), new_point(store, "layer")
        for layer in (other, point):
            append(layer, kept)
        store.commit()
        append(other, [1])  # a pass begins, and calls the second layer more often
        append(point, LENGTHS[20 : 20 + added])
        point.flush()
        store.session.discard_broken_pass()
        assert point.instance_count == 2 * len(kept)
        for layer in (point, other):
            append(layer, [3, 1, 2])
    store = ts.Store(tmp_path / "run")
    assert [lengths_of(layer) for layer in store.efficiency_layers] == 2 * [
        expected([*kept, 3, 1, 2])
    ]
    for layer in store.efficiency_layers:
        rows = [ROWS[: 2 * length] for length in [*kept, 3, 1, 2]]
        np.testing.assert_array_equal(layer[:], np.concatenate(rows))
    assert store.verify().problems == []


def test_a_deleted_layer_leaves_no_ledger(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        point = new_point(store)
        append(point, LENGTHS)
        store.commit()
        assert (tmp_path / "run/_ledger/layer").exists()
        point.reset_states()
        assert not (tmp_path / "run/_ledger/layer").exists()


def test_a_saved_run_and_a_zip_have_it(tmp_path):
    point = new_point()
    append(point, LENGTHS)
    ts.Run([point]).save(tmp_path / "run")
    store = ts.Store(tmp_path / "run")
    assert lengths_of(store["layer"]) == expected(LENGTHS)
    store.to_zip(tmp_path / "run.zip")
    shutil.unpack_archive(tmp_path / "run.zip", tmp_path / "unpacked")
    assert lengths_of(ts.Store(tmp_path / "unpacked")["layer"]) == expected(LENGTHS)


def test_a_layer_may_be_called_like_the_group(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        for name in ("_ledger", "ledger", "labels"):
            append(new_point(store, name), LENGTHS)
    store = ts.Store(tmp_path / "run")
    assert [lengths_of(layer) for layer in store.efficiency_layers] == 3 * [expected(LENGTHS)]
    assert store.verify().orphans == []


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("_ledger/layer/c/3/0", "_ledger/layer/c/3/0 is missing, with captured states in it"),
        ("_ledger/zarr.json", "_ledger/zarr.json is missing, with captured states in its group"),
    ],
)
def test_what_is_missing_is_named(file, problem, tmp_path):
    run = committed(tmp_path / "run", LENGTHS)
    (run / file).unlink()
    assert ts.Store(run).verify().problems == [f"{run}/{problem}"]


def test_a_ledger_of_other_rows_is_damaged(tmp_path):
    """Each file is whole, but they do not belong together."""
    run = committed(tmp_path / "run", LENGTHS)
    other = committed(tmp_path / "other", [*LENGTHS[:-2], LENGTHS[-2] + 7, LENGTHS[-1]])
    shutil.rmtree(run / "_ledger/layer")
    shutil.copytree(other / "_ledger/layer", run / "_ledger/layer")
    ledger = record_of(other)["layers"]["layer"]["ledger"]
    rewrite(
        run / "zarr.json",
        lambda document: document["attributes"]["tensorstate"]["layers"]["layer"].update(
            ledger=ledger
        ),
    )
    problem = "_ledger/layer is damaged: it has 100 instances"
    (found,) = ts.Store(run).verify().problems
    assert problem in found
    for read in (lambda layer: layer.histogram(), lambda layer: layer.snapshot()):
        with pytest.raises(ts.errors.DamagedStore, match=problem):
            read(ts.Store(run)["layer"])
    with pytest.raises(ts.errors.DamagedStore, match=problem):
        new_point(ts.Store(run, "a"))
