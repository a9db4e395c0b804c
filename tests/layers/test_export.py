"""Rows and counts as Arrow tables, Parquet files and pandas frames: exactly what was captured."""

import json
import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu._layers import arrow_rows, chunked_buffer
from tensorstate_gpu._states import parquet
from tests.support.points import new_point, rows_of


def test_a_table_of_rows():
    point = new_point(neurons=11, threshold=0.5)
    rows = rows_of(6, 11)
    point.append(rows, 3, [7, 8, 7])
    table = point.to_arrow()
    assert table.schema.names == ["instance", "state", "label"]
    assert table.schema.types == [pa.int64(), pa.binary(2), pa.int64()]
    assert not any(field.nullable for field in table.schema)
    assert table["instance"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert table["state"].to_pylist() == [row.tobytes() for row in rows]
    assert table["label"].to_pylist() == [7, 7, 8, 8, 7, 7]
    assert table.schema.metadata == {
        b"tensorstate_gpu": ts.__version__.encode(),
        b"name": b"layer",
        b"neurons": b"11",
        b"neuron_axis": b"1",
        b"threshold": b"0.5",
    }


def test_a_stored_layer_tells_the_same_as_its_capture_point(tmp_path, small_pieces):
    point = new_point(tmp_path / "run", name="größe/1", threshold=[0.25] * 16)
    point.append(rows_of(20), 10, [f"label {k}" for k in range(10)])
    point.append(rows_of(7), 7, ["é"] * 7)
    point.flush()
    stored = ts.Store(tmp_path / "run")["größe/1"]
    captured, read = point.to_arrow(), stored.to_arrow()
    assert read.equals(captured, check_metadata=True)
    assert json.loads(read.schema.metadata[b"threshold"]) == [0.25] * 16
    assert read.schema.metadata[b"name"].decode() == "größe/1"
    assert read.schema.types[2] == pa.string()


@pytest.mark.parametrize("labels", [[None, [1]], [[1], None]])
def test_labels_that_some_instances_lack_are_left_out(labels):
    point = new_point()
    for given_ones in labels:
        point.append(rows_of(2), 1, given_ones)
    assert point.to_arrow().schema.names == ["instance", "state"]


BATCHES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=12)
LABELS = {
    "none": lambda count, seed: None,
    "integers": lambda count, seed: np.random.default_rng(seed).integers(
        -(2**63), 2**63 - 1, count
    ),
    "unsigned": lambda count, seed: np.arange(count, dtype=np.uint64 if seed % 2 else np.int8),
    "strings": lambda count, seed: [f"{seed}ü{k}" * (k + 1) for k in range(count)],
}


@pytest.mark.parametrize("where", ["memory", "store"])
@settings(max_examples=40)
@given(batches=BATCHES, neurons=st.integers(1, 20), kind=st.sampled_from(list(LABELS)))
def test_whatever_was_captured_comes_back(where, tmp_path_factory, batches, neurons, kind):
    folder = tmp_path_factory.mktemp("export")
    expected = []
    # A store takes unsigned labels too, but not yet more of them at once than a chunk holds.
    typed = np.asarray if where == "memory" or kind != "unsigned" else np.int64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_buffer, "CHUNK_BYTES", 9)
        patch.setattr(arrow_rows, "PIECE_ROWS", 4)
        patch.setattr(parquet, "ROW_GROUP_BYTES", 100)
        point = new_point(folder / "run" if where == "store" else None, neurons=neurons)
        instance = 0
        for seed, (count, each) in enumerate(batches):
            rows, labels = rows_of(count * each, neurons, seed), LABELS[kind](count, seed)
            point.append(rows, count, None if labels is None else typed(labels))
            for k, row in enumerate(rows):
                label = None if labels is None else labels[k // each]
                expected.append((instance + k // each, row.tobytes(), label))
            instance += count
        if not expected:
            with pytest.raises(ValueError, match="nothing captured"):
                point.to_arrow()
            return
        point.flush()
        layer = ts.Store(folder / "run")["layer"] if where == "store" else point
        layer.to_parquet(folder / "rows.parquet")
        table = layer.to_arrow()
    read = pq.read_table(folder / "rows.parquet")
    assert read.equals(table)
    assert read.schema.equals(table.schema, check_metadata=True)
    columns = [table[name].to_pylist() for name in ("instance", "state")]
    columns.append([None] * len(table) if kind == "none" else table["label"].to_pylist())
    assert list(zip(*columns, strict=True)) == expected


def test_row_groups_gather_small_chunks(tmp_path, small_pieces):
    point = new_point()
    point.append(rows_of(22), 22)
    seen = []
    point.to_parquet(tmp_path / "rows.parquet", progress=seen.append)
    file = pq.ParquetFile(tmp_path / "rows.parquet")
    groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
    assert sum(groups) == 22
    assert 2 < len(groups) < 6
    assert "DELTA_BINARY_PACKED" in file.metadata.row_group(0).column(0).encodings
    assert seen == np.cumsum(groups).tolist()


def test_rows_go_to_a_file_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 100_000)
    point = new_point(neurons=800)
    point.append(rows_of(20_000, 800), 20_000)
    alive = []
    most = 0

    def one_by_one(chunks):
        nonlocal most
        for chunk in chunks:
            for start in range(0, len(chunk), 500):  # 50,000 bytes
                piece = chunk[start : start + 500].copy()
                alive.append(weakref.ref(piece))
                most = max(most, sum(one() is not None for one in alive))
                yield piece
                del piece

    rows = point._arrow_rows()
    rows._chunks = one_by_one(rows._chunks)
    rows.to_parquet(tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").equals(point.to_arrow())
    assert most <= 5  # of 40


def test_a_frame_of_rows():
    point = new_point()
    rows = rows_of(4)
    point.append(rows, 2, ["a", "b"])
    frame = point.to_pandas()
    assert frame["instance"].tolist() == [0, 0, 1, 1]
    assert frame["state"].tolist() == [row.tobytes() for row in rows]
    assert frame["label"].tolist() == ["a", "a", "b", "b"]


@pytest.mark.parametrize("states", [0, 1, 300])
def test_counts(states, tmp_path):
    counts = ts.StateCounts.empty(19)
    if states:
        counts = ts.count_states(rows_of(states, 19)[np.arange(states) // 2], 19)
    table = counts.to_arrow()
    assert table.schema.names == ["state", "count"]
    assert table.schema.types == [pa.binary(3), pa.int64()]
    assert table.schema.metadata == {
        b"tensorstate_gpu": ts.__version__.encode(),
        b"neurons": b"19",
    }
    assert table["state"].to_pylist() == counts.state_ids()
    assert table["count"].to_pylist() == counts.counts.tolist()
    counts.to_parquet(tmp_path / "counts.parquet")
    read = pq.read_table(tmp_path / "counts.parquet")
    assert read.equals(table)
    assert read.schema.equals(table.schema, check_metadata=True)
    frame = counts.to_pandas()
    assert frame["count"].dtype == np.int64
    packed = np.frombuffer(b"".join(frame["state"]), np.uint8).reshape(-1, 3)
    assert ts.StateCounts(packed, frame["count"].to_numpy(), 19) == counts


@pytest.mark.parametrize("what", ["to_arrow", "to_pandas", "to_parquet"])
def test_nothing_to_export_is_told_and_leaves_no_file(what, tmp_path):
    arguments = [tmp_path / "out"] if what == "to_parquet" else []
    counting = new_point(keep="counts")
    counting.append(rows_of(4), 4)
    for point, message in [(new_point(), "nothing captured"), (counting, "only counts are kept")]:
        with pytest.raises(ValueError, match=message):
            getattr(point, what)(*arguments)
    assert list(tmp_path.iterdir()) == []
    assert len(counting.histogram().to_arrow()) == len(counting.histogram())


@pytest.mark.parametrize(
    ("labels", "error"), [([[1], ["one"]], TypeError), ([[1], [2**63]], ValueError)]
)
def test_labels_that_no_column_holds(labels, error):
    point = new_point()
    for one in labels:
        point.append(rows_of(1), 1, one)
    with pytest.raises(error, match="layer: labels in an export must be"):
        point.to_arrow()
