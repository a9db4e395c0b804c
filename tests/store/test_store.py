"""Captured states on disk: what is written, what is read again, what is never overwritten."""

import json
from fractions import Fraction

import numpy as np
import pytest
import zarr

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.store.keys import state_key
from tests.support.points import new_point, rows_of

NAMES = [
    "conv_1_post_states",
    "blocks.0.attn/qkv",
    ".",
    "..",
    "...",
    "../../outside",
    "/absolute",
    "_hidden",
    "__reserved",
    ".hidden",
    "zarr.json",
    "c",
    "Schicht größer 一",
    "two words ",
    " ",
    "100 %",
    "a%2Fb",
    "a/b",
    "a\\b",
    "new\nline",
    'quote"',
    "*?<>|:",
]


def new_rows(states, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (states, width)).astype(np.uint8)


def test_rows_come_back_in_order(tmp_path, small_chunks):
    rows = new_rows(95, 2)
    point = new_point(tmp_path / "run")
    for start, stop in [(0, 3), (3, 10), (10, 10), (10, 47), (47, 48), (48, 95)]:
        point.append(rows[start:stop], stop - start)
        np.testing.assert_array_equal(point.raw_states, rows[:stop])  # flushed or not
    packed, counts = testing.count(rows)
    np.testing.assert_array_equal(point.counts(), counts)
    np.testing.assert_array_equal(point.histogram().packed, packed)
    chosen = rows[[9, 10, 94]]
    np.testing.assert_array_equal(point.histogram([9, 10, 94]).packed, testing.count(chosen)[0])
    point.flush()
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], rows)


def test_every_slice(tmp_path, small_chunks):
    rows = new_rows(25, 2)
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("layer", store)
        point.declare(16)
        point.append(rows, 25)
    layer = ts.Store(tmp_path / "run")["layer"]
    for start in range(26):
        for stop in range(26):
            np.testing.assert_array_equal(layer[start:stop], rows[start:stop])


def test_wide_rows_over_many_chunks_of_the_real_size(tmp_path):
    rows = new_rows(1100, 12_500)  # 335 rows to a chunk of 4 MiB
    point = new_point(tmp_path, neurons=100_000)
    point.append(rows[:1000], 1000)
    point.append(rows[1000:], 100)
    assert [len(chunk) for chunk in point.chunks()] == [335, 335, 335, 95]
    np.testing.assert_array_equal(point.raw_states, rows)
    point.flush()
    stored = ts.Store(tmp_path)["layer"]
    np.testing.assert_array_equal(np.concatenate(list(stored.chunks())), rows)


def test_many_small_appends(tmp_path):
    rows = new_rows(5000, 2)
    point = new_point(tmp_path)
    for start in range(0, 5000, 2):
        point.append(rows[start : start + 2], 1)
        if start % 1000 == 0:
            point.flush()  # a part of a chunk is written again
    np.testing.assert_array_equal(point.raw_states, rows)
    point.flush()
    np.testing.assert_array_equal(zarr.open_group(tmp_path, mode="r")["layer"][:], rows)
    assert len([file for file in (tmp_path / "layer").rglob("*") if file.is_file()]) == 2


def test_plain_zarr_reads_it(tmp_path):
    rows = new_rows(30, 2)
    point = new_point(tmp_path, "net/conv", 11, threshold=np.array([0.5] * 11), neuron_axis=1)
    point.append(rows & 7, 10)
    point.flush()
    group = zarr.open_group(tmp_path, mode="r", zarr_format=3)
    about = group.attrs["tensorstate"]
    assert about["format"] == 3
    assert about["version"] == ts.__version__
    ((key, array),) = group.arrays()
    assert key == "net%2Fconv"
    assert (array.dtype, array.shape) == (np.uint8, (30, 2))
    np.testing.assert_array_equal(array[:], rows & 7)
    attributes = array.attrs.asdict()
    assert attributes["name"] == "net/conv"
    assert attributes["states_per_instance"] == 3
    assert attributes["neurons"] == 11
    assert attributes["neuron_axis"] == 1
    assert attributes["threshold"] == [0.5] * 11


@pytest.mark.parametrize(
    "threshold",
    [0, 2**60 + 1, np.float32(0.5), [np.float32(0.5), 1] * 8, (0.5,) * 16, Fraction(1, 4)],
)
def test_every_threshold_is_stored(threshold, tmp_path):
    point = new_point(tmp_path, threshold=threshold)
    point.append(new_rows(3, 2), 3)
    point.flush()
    stored = zarr.open_group(tmp_path, mode="r")["layer"].attrs["threshold"]
    np.testing.assert_array_equal(np.array(stored, float), np.array(threshold, float))


def test_awkward_names(tmp_path):
    folder = tmp_path / "run"
    points = []
    for k, name in enumerate(NAMES):
        points.append(new_point(folder, name))
        points[-1].append(np.full((k + 1, 2), k, np.uint8), k + 1)
    for point in points:
        point.flush()
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    written = {file.name for file in folder.iterdir()}
    assert written == {"zarr.json", *map(state_key, NAMES)}
    assert len(written) == len(NAMES) + 1
    store = ts.Store(folder)
    assert store.names == NAMES
    for k, name in enumerate(NAMES):
        (chunk,) = store[name].chunks()
        np.testing.assert_array_equal(chunk, np.full((k + 1, 2), k))
    assert dict(zarr.open_group(folder, mode="r").arrays()).keys() == set(map(state_key, NAMES))


def test_all_zero_states_are_written(tmp_path, small_chunks):
    point = new_point(tmp_path)
    point.append(np.zeros((25, 2), np.uint8), 25)
    point.flush()
    assert {"0", "1", "2"} == {file.name for file in (tmp_path / "layer/c").iterdir()}
    assert ts.Store(tmp_path)["layer"].state_count == 25


def other_content(path, kind):
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    else:
        point = new_point(path)
        point.append(new_rows(3, 2), 3)
        point.flush()


def content(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("kind", ["file", "folder", "store"])
def test_a_path_with_other_content_is_refused_and_untouched(kind, tmp_path):
    path = tmp_path / "taken"
    other_content(path, kind)
    before = content(path)
    run = ts.Run([ts.CapturePoint("other")])
    run["other"].declare(8)
    run["other"].append(new_rows(3, 1), 3)
    for write in (lambda: ts.CapturePoint("other", path), lambda: run.save(path)):
        with pytest.raises(ValueError, match="taken exists and is not empty"):
            write()
    assert content(path) == before


def test_an_empty_folder_will_do(tmp_path):
    point = new_point(str(tmp_path))
    point.append(new_rows(3, 2), 3)
    assert point.state_count == 3


def test_two_points_in_one_store(tmp_path):
    first, second = new_point(tmp_path / "run", "b"), new_point(f"{tmp_path}/x/../run", "a", 24)
    first.append(new_rows(5, 2), 5)
    second.append(new_rows(7, 3), 7)
    for point in (first, second):
        point.flush()
    store = ts.Store(tmp_path / "run")
    assert store.names == ["b", "a"]  # as they were added
    assert (store["b"].state_count, store["a"].state_count, store["a"].neurons) == (5, 7, 24)


def test_the_same_name_twice_is_refused(tmp_path):
    point = new_point(tmp_path)
    point.append(new_rows(5, 2), 5)
    with pytest.raises(ValueError, match=r"already has states of 'layer'.* mode='a'\) goes on"):
        ts.CapturePoint("layer", tmp_path)
    np.testing.assert_array_equal(point.raw_states, new_rows(5, 2))


def test_a_layer_that_was_reset_keeps_its_place(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        points = [new_point(store, name=name) for name in "abc"]
        for point in points:
            point.append(rows_of(5), 5)
        store.commit()
        points[0].reset_states((None, 16))
        points[0].append(rows_of(5), 5)
    assert ts.Store(tmp_path / "run").names == ["a", "b", "c"]


def test_reset_forgets_the_rows_on_disk(tmp_path, small_chunks):
    point, other = new_point(tmp_path), new_point(tmp_path, "other")
    point.append(new_rows(25, 2), 25)
    other.append(new_rows(4, 2), 4)
    point.reset_states()
    assert not (tmp_path / "layer").exists()
    with pytest.raises(ValueError, match="nothing captured"):
        point.counts()
    point.declare(24)
    point.append(new_rows(3, 3, seed=1), 3)
    for written in (point, other):
        written.flush()
    store = ts.Store(tmp_path)
    np.testing.assert_array_equal(store["layer"][:], new_rows(3, 3, seed=1))
    np.testing.assert_array_equal(store["other"][:], new_rows(4, 2))


def test_save_writes_every_layer(tmp_path):
    stored = new_point(tmp_path / "captured", "stored")
    memory = ts.CapturePoint("in memory", threshold=0.5)
    memory.declare(11, 3)
    stored.append(new_rows(50, 2), 50)
    memory.append(new_rows(70, 2) & 7, 35)
    run = ts.Run([memory, stored])
    run.save(str(tmp_path / "saved"))
    store = ts.Store(tmp_path / "saved")
    assert store.names == ["in memory", "stored"]
    for name in store.names:
        np.testing.assert_array_equal(store[name][:], run[name].raw_states)
    assert (store["in memory"].neurons, store["in memory"].axis) == (11, 3)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_save_writes_nothing_where_a_layer_has_no_rows(keep, tmp_path):
    full, bad = ts.CapturePoint("full"), ts.CapturePoint("bad", keep=keep)
    for point in (full, bad) if keep == "counts" else (full,):
        point.declare(16)
    full.append(new_rows(5, 2), 5)
    with pytest.raises(ts.errors.NothingCaptured, match="nothing captured"):
        ts.Run([full, bad]).save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_newer_format_is_refused(tmp_path):
    new_point(tmp_path).flush()
    file = tmp_path / "zarr.json"
    about = json.loads(file.read_text())
    about["attributes"]["tensorstate"]["format"] = 5
    file.write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"has format 5, this version reads 2, 3, 4"):
        ts.Store(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "folder", "zarr", "array", "garbage"])
def test_what_is_no_store_is_refused(kind, tmp_path):
    path = tmp_path / "path"
    if kind in ("file", "folder"):
        other_content(path, kind)
    elif kind == "zarr":
        zarr.open_group(path, mode="w").create_array("a", shape=(3,), dtype="uint8")
    elif kind == "array":
        zarr.create_array(path, shape=(3,), dtype="uint8")
    elif kind != "missing":
        path.mkdir()
        if kind == "garbage":
            (path / "zarr.json").write_text("{")
    expected = "path.*is damaged" if kind == "garbage" else "path holds no captured states"
    with pytest.raises(ValueError, match=expected):
        ts.Store(path)


def test_what_others_put_into_the_group_is_left_alone(tmp_path):
    point = new_point(tmp_path)
    point.append(new_rows(3, 2), 3)
    point.flush()
    zarr.open_group(tmp_path, mode="r+").create_array("mine", shape=(3,), dtype="uint8")
    assert ts.Store(tmp_path).names == ["layer"]
    assert dict(zarr.open_group(tmp_path, mode="r").arrays()).keys() == {"layer", "mine"}
