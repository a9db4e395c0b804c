"""Stores in an object store: written to an S3 server that runs in a process of its own."""

import sys

import numpy as np
import obstore
import pytest
import zarr
from obstore.store import LocalStore, MemoryStore, S3Store
from zarr.storage import ObjectStore

import tensorstate_gpu as ts
from tests.support.object_server import ROWS, Server, content, is_clear, keys, options
from tests.support.points import new_point

NAMES = ["a/b", "100 %", "größer 一", "a%2Fb", "..", "c", "zarr.json", "two words ", "*?<>|:+&=#"]


# ---- what is written is read again -----------------------------------------------------------


@pytest.mark.parametrize("place", ["by_url", "below"])
@pytest.mark.usefixtures("forty_rows")
def test_a_capture_is_committed_and_goes_on(place, request):
    place = request.getfixturevalue(place)
    store = ts.Store(place, "x", commit_seconds=None)
    point = new_point(store)
    point.labels(["cat", "dog", "one long label"] * 4)
    point.append(ROWS[:12], 12)
    store.commit()
    reader = ts.Store(place)
    point.labels(["größer", "dog"] * 10 + ["cat"])
    point.append(ROWS[12:33], 21)
    np.testing.assert_array_equal(reader["layer"][:], ROWS[:12])  # what was there when it opened
    store.close()
    assert ts.Store(place)["layer"].state_count == 33

    with ts.Store(place, "a") as store:
        point = new_point(store)
        assert point.state_count == 33
        point.labels(["after"] * 62)
        point.append(ROWS[33:], 62)
        np.testing.assert_array_equal(point.raw_states, ROWS)
    layer = ts.Store(place)["layer"]
    np.testing.assert_array_equal(layer[:], ROWS)
    np.testing.assert_array_equal(layer[31:34], ROWS[31:34])
    labels = ["cat", "dog", "one long label"] * 4 + ["größer", "dog"] * 10 + ["cat"]
    assert layer.labels().tolist() == labels + ["after"] * 62


def test_a_path_creates_a_store_by_url(by_url):
    point = new_point(by_url)
    other = new_point(by_url, "other")
    for captured in (point, other):
        captured.append(ROWS, 95)
        captured.flush()
    assert ts.Store(by_url).names == ["layer", "other"]
    np.testing.assert_array_equal(ts.Store(by_url)["other"][:], ROWS)


def test_a_run_is_saved_by_url(by_url):
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(ROWS, 95)
    ts.Run([point]).save(by_url)
    np.testing.assert_array_equal(ts.Store(by_url)["layer"][:], ROWS)
    with pytest.raises(ValueError, match=r"run.zarr exists and is not empty"):
        ts.Run([point]).save(by_url)


def test_awkward_names_and_plain_zarr(below, s3):
    with ts.Store(below, "x") as store:
        for k, name in enumerate(NAMES):
            new_point(store, name).append(np.full((k + 1, 2), k, np.uint8), k + 1, [name] * (k + 1))
    assert all(key.startswith("runs/größer 一/run.zarr/") for key in keys(s3))
    store = ts.Store(below)
    assert store.names == NAMES
    group = zarr.open_group(ObjectStore(below, read_only=True), mode="r", zarr_format=3)
    arrays, labels = dict(group.arrays()), dict(group["labels"].arrays())
    assert {"a%2Fb", "a%252Fb", "100 %25"} < arrays.keys() == labels.keys()
    by_name = {array.attrs["name"]: (array, labels[key]) for key, array in arrays.items()}
    assert by_name.keys() == set(NAMES)
    for k, name in enumerate(NAMES):
        for read in (store[name], by_name[name][0]):
            np.testing.assert_array_equal(read[:], np.full((k + 1, 2), k))
        for read in (store[name].labels(), by_name[name][1][:]):
            assert read.tolist() == [name] * (k + 1)


@pytest.mark.usefixtures("forty_rows")
def test_reset_deletes_the_objects(below, s3):
    store = ts.Store(below, "x")
    point, other = new_point(store), new_point(store, "layer 2")
    point.append(ROWS, 95, np.arange(95))
    other.append(ROWS[:5], 5)
    store.commit()
    assert len([key for key in keys(below) if key.startswith("layer/")]) == 4
    point.reset_states()
    assert {key.split("/")[0] for key in keys(below)} == {"zarr.json", "labels", "layer 2"}
    assert not [key for key in keys(below) if key.startswith("labels/layer")]
    point.declare(24)
    point.append(np.zeros((3, 3), np.uint8), 3)
    store.close()
    store = ts.Store(below)
    assert (store["layer"].state_count, store["layer"].neurons) == (3, 24)
    np.testing.assert_array_equal(store["layer 2"][:], ROWS[:5])


@pytest.mark.parametrize("objects", [MemoryStore, LocalStore])
def test_other_stores_of_obstore(objects, tmp_path):
    objects = objects() if objects is MemoryStore else objects(tmp_path)
    with ts.Store(objects, "x") as store:
        new_point(store, "größer 一").append(ROWS, 95)
    np.testing.assert_array_equal(ts.Store(objects)["größer 一"][:], ROWS)


def test_stores_of_the_same_name_on_two_servers_are_two(s3, server, bucket, tmp_path):
    second = Server(tmp_path / "log")
    try:
        second.request("PUT", f"/{bucket}")
        elsewhere = S3Store(**options(second.port, bucket))
        for objects, rows in ((s3, ROWS), (elsewhere, ROWS[:7])):
            point = new_point(objects)
            point.append(rows, len(rows))
            point.flush()
        assert ts.Store(s3)["layer"].state_count == 95
        assert ts.Store(elsewhere)["layer"].state_count == 7
        assert str(server.port) in str(ts.Store(s3))
    finally:
        second.kill()


# ---- what is there already is left alone ----------------------------------------------------


@pytest.mark.parametrize("what", ["store", "object"])
@pytest.mark.parametrize("write", [lambda place: ts.Store(place, "x"), new_point])
def test_a_place_with_other_content_is_refused_and_untouched(write, what, below, s3):
    if what == "store":
        with ts.Store(below, "x") as store:
            new_point(store).append(ROWS, 95)
    else:
        obstore.put(below, "somebody/else.txt", b"mine")
    before = content(s3)
    with pytest.raises(ValueError, match=r"run.zarr exists and is not empty; it is not overwrit"):
        write(below)
    if what == "object":
        with pytest.raises(ValueError, match=r"run.zarr holds no captured states"):
            ts.Store(below, "a")
    assert content(s3) == before


def test_neighbours_of_a_prefix_are_not_in_the_way(server, bucket, s3):
    obstore.put(s3, "run.zarr.old/zarr.json", b"mine")
    obstore.put(s3, "run", b"mine")
    server.request("PUT", f"/{bucket}/run.zarr/")  # as S3's console makes a folder
    objects = S3Store(**options(server.port, bucket, prefix="run.zarr"))
    with ts.Store(objects, "x") as store:
        point = new_point(store)
        point.append(ROWS, 95)
        point.reset_states()
    assert {"run", "run.zarr.old/zarr.json"} < set(keys(s3))


# ---- damage is named ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["zarr.json", "layer/zarr.json", "layer/c/0/0", "labels/layer/c/1"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
@pytest.mark.usefixtures("forty_rows")
def test_a_damaged_object_is_named(key, damage, below):
    with ts.Store(below, "x") as store:
        new_point(store).append(ROWS[:25], 25, np.arange(25))
    if damage == "missing":
        obstore.delete(below, key)
    else:
        data = bytearray(obstore.get(below, key).bytes())
        data[len(data) // 2] ^= 1
        obstore.put(below, key, bytes(data))
    expected = rf"run.zarr/{key} is (damaged|missing)"
    if key == "zarr.json" and damage == "missing":
        expected = "run.zarr holds no captured states"

    def read():
        layer = ts.Store(below)["layer"]
        return layer[:], layer.labels()

    with pytest.raises(ValueError, match=expected) as caught:
        read()
    assert is_clear(caught.value)


# ---- what is no place for a store ------------------------------------------------------------


def test_without_obstore(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorstate_gpu.store.bucket", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    for mode in "rxa":
        with pytest.raises(ImportError, match=r"pip install obstore"):
            ts.Store("s3://bucket/run", mode)
    with pytest.raises(ImportError, match=r"pip install obstore"):
        ts.CapturePoint("layer", "s3://bucket/run")


def test_what_is_no_store_of_obstore(s3):
    obstore.put(s3, "object", b"1")
    for other in (obstore.get(s3, "object"), obstore.list(s3), obstore.exceptions.BaseError("s3")):
        with pytest.raises(TypeError, match=r"must be a str, a path or .*, got [A-Z]\w+$"):
            ts.Store(other)
