"""A stored layer beside arrays: shape and dtype, NumPy, Arrow streams, pickles, xarray."""

import pickle

import numpy as np
import pytest
import zarr

import tensorstate_gpu as ts
from tests.support.closed_store import ROWS
from tests.support.labelled_store import write_run


@pytest.fixture
def layer(stored):
    return ts.Store(stored)["layer"]


def test_a_layer_has_the_shape_and_dtype_of_its_rows(layer):
    assert (layer.shape, layer.dtype, layer.ndim) == (ROWS.shape, np.uint8, 2)
    np.testing.assert_array_equal(np.asarray(layer), ROWS)
    wide = np.asarray(layer, np.int32)
    assert wide.dtype == np.int32
    np.testing.assert_array_equal(wide, ROWS)


def test_an_array_of_a_layer_is_a_copy(layer):
    with pytest.raises(ValueError, match="layer: the rows are in a store, so an array"):
        layer.__array__(copy=False)


def test_a_layer_without_rows(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("layer", store)
        store.commit()
        assert store["layer"].shape == (0, 0)
        del point


def test_arrow_libraries_read_a_layer_as_a_stream(stored, layer, small_pieces):
    pa, polars = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    reader = pa.RecordBatchReader.from_stream(layer)
    first = reader.read_next_batch()
    assert 0 < len(first) < len(ROWS)  # not all rows are read at once
    assert pa.table(layer).equals(layer.to_arrow())
    frame = polars.DataFrame(layer)
    assert frame.columns == ["instance", "state", "label"]
    assert b"".join(frame["state"]) == ROWS.tobytes()
    point = ts.CapturePoint("memory")
    point.declare(16)
    point.append(ROWS, 35)
    assert polars.DataFrame(point)["state"].equals(frame["state"])


def test_pickles_refer_to_the_store(stored, layer):
    for again in (pickle.loads(pickle.dumps(layer)), pickle.loads(pickle.dumps(ts.Store(stored)))):
        found = again if isinstance(again, type(layer)) else again["layer"]
        np.testing.assert_array_equal(found[:], ROWS)


def test_each_layer_has_dimensions_of_its_own(tmp_path):
    """xarray takes dimensions of one name for the same one, and refuses other sizes."""
    group = zarr.open_group(write_run(tmp_path / "run"), mode="r")
    dimensions = {key: array.metadata.dimension_names for key, array in group.arrays()}
    assert dimensions == {"a": ("a_state", "a_byte"), "b": ("b_state", "b_byte")}
    assert group["labels/a"].metadata.dimension_names == ("a_instance",)


def test_stores_with_other_dimension_names_go_on(tmp_path, monkeypatch):
    """Stores of earlier versions have the same names for all layers."""
    from tensorstate_gpu.store import chunks

    new_document = chunks.new_document

    def earlier(dtype, shape, compressor, names):
        return new_document(dtype, shape, compressor, ("state", "byte")[: len(shape)])

    with monkeypatch.context() as patch:
        patch.setattr("tensorstate_gpu.store.columns.new_document", earlier)
        write_run(tmp_path / "run")
    with ts.Store(tmp_path / "run", "a") as store:
        ts.CapturePoint("a", store).append(ROWS, 7, np.arange(7))
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["a"][:], np.tile(ROWS, (2, 1)))
    array = zarr.open_array(tmp_path / "run/a", mode="r")
    assert (array.shape, array.metadata.dimension_names) == ((70, 2), ("state", "byte"))


def test_xarray_opens_a_store(tmp_path):
    import xarray

    dataset = xarray.open_zarr(write_run(tmp_path / "run"), consolidated=False)
    assert dict(dataset.sizes) == {"a_state": 35, "a_byte": 2, "b_state": 12, "b_byte": 2}
    np.testing.assert_array_equal(dataset["a"], ROWS)
