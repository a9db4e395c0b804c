"""A store as one zip file: what zarr's ZipStore reads is exactly what was committed."""

import json
import os
import zipfile

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

import tensorstate_gpu as ts
from tensorstate_gpu.errors import NoStore
from tests.support.labelled_store import ROWS, rewrite

pytestmark = pytest.mark.usefixtures("small_chunks")


def test_a_zip_that_zarr_reads(run, tmp_path):
    for key in ("note.txt", "a/c/4/0", "a/c/2/0.partial"):
        (run / key).parent.mkdir(exist_ok=True)
        (run / key).write_text("mine")
    seen = []
    ts.Store(run).to_zip(tmp_path / "run.zip", progress=lambda *numbers: seen.append(numbers))
    assert seen == [(done, 10) for done in range(1, 11)]
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        entries = archive.infolist()
        assert archive.testzip() is None
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.external_attr >> 16 for entry in entries} == {0o644}
    assert len(entries) == len({entry.filename for entry in entries}) == 10 + 5
    group = zarr.open_group(ZipStore(tmp_path / "run.zip", mode="r"), mode="r")
    np.testing.assert_array_equal(group["a"][:], ROWS)
    np.testing.assert_array_equal(group["labels/a"][:], np.arange(7))
    np.testing.assert_array_equal(group["b"][:], ROWS[:12])
    with pytest.raises(
        NoStore, match=r"run.zip holds no captured states: it is a zip file. Unpack"
    ):
        ts.Store(tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        archive.extractall(tmp_path / "again")
    again = ts.Store(tmp_path / "again")
    assert again.record == ts.Store(run).record
    verified = again.verify()
    assert (verified.problems, verified.orphans) == ([], [])


def test_a_zip_of_some_layers(run, tmp_path):
    ts.Store(run).to_zip(tmp_path / "b.zip", layers=["b"])
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "b")
    store = ts.Store(tmp_path / "b")
    assert (store.names, store.verify().good, store.verify().orphans) == (["b"], True, [])
    np.testing.assert_array_equal(store["b"][:], ROWS[:12])


@pytest.mark.parametrize("shown", [0, 20, 40])
def test_a_zip_shows_exactly_what_is_committed(shown, run, tmp_path):
    # As where a writer was killed after its commit; or was quicker than the copy.
    rewrite(run / "a/zarr.json", lambda document: document["shape"].__setitem__(0, shown))
    ts.Store(run).to_zip(tmp_path / "run.zip")
    group = zarr.open_group(ZipStore(tmp_path / "run.zip", mode="r"), mode="r")
    np.testing.assert_array_equal(group["a"][:], ROWS)


@pytest.mark.parametrize("key", ["a/c/1/0", "labels/a/c/0", "a/zarr.json"])
def test_a_damaged_store_gives_no_zip(key, run, tmp_path):
    (run / key).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=rf"{key} is damaged"):
        ts.Store(run).to_zip(tmp_path / "run.zip")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_zip_replaces_nothing(run, tmp_path):
    with pytest.raises(ValueError, match="run exists; it is not overwritten"):
        ts.Store(run).to_zip(run)
    with pytest.raises(KeyError, match="no states of 'c'"):
        ts.Store(run).to_zip(tmp_path / "run.zip", layers=["a", "c"])
    assert os.listdir(tmp_path) == ["run"]


def test_a_zip_of_an_empty_store(tmp_path):
    ts.Store(tmp_path / "run", "x").close()
    ts.Store(tmp_path / "run").to_zip(tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        assert json.loads(archive.read("zarr.json"))["node_type"] == "group"
