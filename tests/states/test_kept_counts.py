"""Counts on disk that are kept at a path, and those of layers beyond the memory limit."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import store
from tensorstate_gpu._states import external_counter
from tensorstate_gpu._states.sorted_runs import MemoryRun, ScratchRun
from tensorstate_gpu._states.stored_counts import saved
from tensorstate_gpu.store.files import files_at
from tests.support.runs_on_disk import (
    BUDGET,
    inputs,
    small_runs,  # noqa: F401
    stored,
)

pytestmark = pytest.mark.usefixtures("small_runs")


# ---- kept at a path ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 8, 65])
def test_kept_counts(width, tmp_path):
    rows = inputs(width)["changing"]
    expected = ts.count_states(rows)
    kept = ts.count_states(rows, to=tmp_path / "counts.zarr")
    for counts in (kept, store.open_counts(tmp_path / "counts.zarr")):
        assert counts.load() == expected
        assert (len(counts), counts.total) == (len(expected), expected.total)
        assert counts.count_of(expected.packed[-1]) == expected.counts[-1]
    assert [file.name for file in tmp_path.iterdir()] == ["counts.zarr"]
    with pytest.raises(ValueError, match="exists"):
        ts.count_states(rows, to=tmp_path / "counts.zarr")


def test_kept_counts_are_arrays_for_every_zarr_client(tmp_path):
    import zarr

    rows = inputs(8)["skewed"]
    ts.count_states(rows, to=tmp_path / "counts.zarr")
    group, expected = zarr.open_group(tmp_path / "counts.zarr", mode="r"), ts.count_states(rows)
    np.testing.assert_array_equal(group["states"][:], expected.packed)
    np.testing.assert_array_equal(group["counts"][:], expected.counts)
    assert group["counts"].dtype == np.uint16


def test_pickles_read_the_same_files(tmp_path):
    rows = inputs(8)["skewed"]
    counts = stored(rows)
    with pytest.raises(TypeError, match=r"save\(path\) writes"):
        pickle.dumps(counts)
    kept = counts.save(tmp_path / "counts.zarr")
    kept.count_of(rows[0])
    assert pickle.loads(pickle.dumps(kept)).load() == ts.count_states(rows)


def test_kept_in_memory_and_merged_to_a_path():
    rows = inputs(8)
    one = ts.count_states(rows["new"], to="memory://counts-one")
    two = one.merge(ts.count_states(rows["skewed"])).save("memory://counts-two")
    assert two.load() == ts.count_states(np.concatenate([rows["new"], rows["skewed"]]))
    with pytest.raises(ValueError, match="exists"):
        one.save("memory://counts-two")


def test_counts_that_no_float_holds(tmp_path):
    rows = np.array([[1], [2]], np.uint8)
    counts = ts.StateCounts(rows, [2**53 + 1, 2**62 + 1], 8)
    stored_counts = ts.StoredCounts([MemoryRun(counts.packed, counts.counts)], 8)
    kept = stored_counts.save(tmp_path / "counts.zarr")
    assert kept.load() == stored_counts.load() == counts
    assert kept.total == counts.total
    assert [part.tolist() for part in kept.counts_of_counts()] == [[2**53 + 1, 2**62 + 1], [1, 1]]


def test_no_rows(tmp_path):
    kept = ts.count_states(np.empty((0, 3), np.uint8), to=tmp_path / "counts.zarr")
    assert len(kept) == kept.total == len(kept.load()) == 0
    assert list(kept.pieces()) == []
    with pytest.raises(ValueError, match="empty"):
        kept.entropy()


def test_bits_beyond_the_neurons(tmp_path):
    rows = np.array([[0], [8]], np.uint8)
    with pytest.raises(ValueError, match="beyond"):
        ts.count_states(rows, neurons=3, to=tmp_path / "counts.zarr")
    assert not [*tmp_path.iterdir()]


def test_a_path_without_counts(tmp_path):
    (tmp_path / "file").touch()
    for name, why in (("none", "there is no such folder"), ("file", "it is a file")):
        with pytest.raises(ts.errors.NoStore, match=f"{name} holds no counts: {why}"):
            store.open_counts(tmp_path / name)
    ts.Store(tmp_path / "run.zarr", "x").close()
    with pytest.raises(ts.errors.NoStore, match="holds no counts"):
        store.open_counts(tmp_path / "run.zarr")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_record_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "counts.zarr"
    ts.count_states(inputs(8)["skewed"], to=path)
    (path / "zarr.json").write_bytes(content)
    with pytest.raises(ts.errors.DamagedStore, match=r"zarr\.json is damaged"):
        store.open_counts(path)


@pytest.mark.parametrize("about", [3, None, []])
def test_a_group_of_something_else(about, tmp_path):
    attributes = {"tensorstate_counts": about}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(ts.errors.NoStore, match="holds no counts"):
        store.open_counts(tmp_path)


def test_a_flipped_bit_in_any_file_is_named(tmp_path):
    path = tmp_path / "counts.zarr"
    ts.count_states(inputs(8)["skewed"], to=path)
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        whole = file.read_bytes()
        for place in (len(whole) // 3, len(whole) - 2):
            damaged = bytearray(whole)
            damaged[place] ^= 4
            file.write_bytes(damaged)
            with pytest.raises((ts.errors.DamagedStore, ts.errors.NoStore)):
                store.open_counts(path).load()
        file.write_bytes(whole)
    store.open_counts(path).load()


# ---- layers, and limits ------------------------------------------------------------------------


@pytest.fixture
def layer(tmp_path):
    rows = inputs(8, 30_000)["skewed"]
    run = ts.Store(tmp_path / "run.zarr", "x", chunk_bytes=1 << 15)
    point = ts.CapturePoint("layer", run)
    point.declare(64)
    point.append(rows, len(rows))
    run.close()
    return ts.Store(tmp_path / "run.zarr")["layer"]


def test_a_layer_beyond_the_limit(layer, tmp_path, monkeypatch):
    expected = layer.histogram()
    half = layer.histogram(slice(0, 15_000))
    fresh = ts.Store(tmp_path / "run.zarr")["layer"]
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(len(expected) * 16 - 1)
    assert fresh.entropy() == pytest.approx(expected.entropy(), rel=1e-14)
    assert fresh.efficiency(2) == pytest.approx(expected.efficiency(2), rel=1e-14)
    with pytest.raises(MemoryError, match="to=path"):
        fresh.histogram()
    assert fresh.histogram(slice(0, 15_000)) == half
    kept = fresh.histogram(to=tmp_path / "counts.zarr")
    some = fresh.histogram(slice(0, 15_000), to=tmp_path / "half.zarr")
    assert ts.count_states(fresh, to=tmp_path / "again.zarr").total == expected.total
    ts.set_memory_limit(None)
    assert (kept.load(), some.load()) == (expected, half)
    assert fresh.histogram() == expected


def test_a_report_beyond_the_limit_has_the_same_ranges(layer, tmp_path, monkeypatch):
    expected = ts.Store(tmp_path / "run.zarr").report().layers[0]
    assert expected.estimate is not None
    fresh = ts.Store(tmp_path / "run.zarr")["layer"]
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(4 * BUDGET)
    for grouped in (fresh.grouped, lambda: fresh.counts_by(np.arange(len(fresh)) % 3)):
        with pytest.raises(MemoryError, match="distinct states with their counts are"):
            grouped()
    ts.set_memory_limit(16 * BUDGET)
    assert isinstance(fresh.counted_groups(), ts.StoredGroups)
    found = ts.Store(tmp_path / "run.zarr").report().layers[0]
    for name, value in dataclasses.asdict(expected).items():
        exact = not isinstance(value, float)
        assert getattr(found, name) == (value if exact else pytest.approx(value, rel=1e-13))


def test_a_layer_without_a_limit_is_loaded(layer, tmp_path, monkeypatch):
    expected = layer.histogram()
    fresh = ts.Store(tmp_path / "run.zarr")["layer"]
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    assert isinstance(fresh.counted(), ts.StoredCounts)
    assert fresh.histogram() == expected


def test_an_array_beyond_the_limit(monkeypatch):
    rows = inputs(8)["cyclic"]
    expected = ts.count_states(rows)
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(BUDGET)
    assert ts.count_states(rows) == expected  # counted in files, and loaded
    ts.set_memory_limit(len(expected) * 16 - 1)
    with pytest.raises(MemoryError, match="set_memory_limit"):
        ts.count_states(rows)


# ---- written by one merge, with progress -------------------------------------------------------


def test_a_layer_is_written_while_its_files_are_read_once(layer, tmp_path, monkeypatch):
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    monkeypatch.setattr(external_counter, "_MOST_RUNS", 1000)
    read, blocks = ScratchRun.read, []

    def counted(run, first, last):
        blocks.extend((run, block) for block in range(first, last))
        return read(run, first, last)

    monkeypatch.setattr(ScratchRun, "read", counted)
    layer.histogram(to=tmp_path / "counts.zarr")
    assert len(set(blocks)) > 100
    # A block in which two ranges meet is read for both.
    assert len(blocks) < 1.5 * len(set(blocks))


def test_counts_of_other_rows_than_were_captured_are_not_written(layer, tmp_path):
    with pytest.raises(ts.errors.LedgerError, match="29999 rows were captured, 30000 counted"):
        saved(layer.histogram(), tmp_path / "counts.zarr", rows=29_999)
    assert not (tmp_path / "counts.zarr").exists()


@pytest.mark.parametrize("index", [None, slice(0, 15_000)])
@pytest.mark.parametrize("written", [False, True])
def test_progress_of_a_histogram(index, written, layer, tmp_path, monkeypatch):
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    seen = []
    to = {"to": tmp_path / "counts.zarr"} if written else {}
    layer.histogram(index, progress=lambda *amounts: seen.append(amounts), **to)
    done, totals = zip(*seen, strict=True)
    assert set(totals) == {60_000 if written else 30_000}
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]
    assert len(set(done)) > 7
    assert 30_000 in done  # all are counted


def test_progress_of_saving(tmp_path):
    seen = []
    stored(inputs(8)["new"]).save(
        tmp_path / "counts.zarr", progress=lambda *amounts: seen.append(amounts)
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 10


def test_a_path_that_is_taken_is_told_before_anything_is_counted(layer, tmp_path, monkeypatch):
    rows = inputs(8)["new"]
    ts.count_states(rows[:9], to=tmp_path / "there")
    monkeypatch.setattr(external_counter.ExternalCounter, "add", None)
    for to, error in (
        (tmp_path / "there", pytest.raises(ValueError, match="exists; it is not overwritten")),
        (tmp_path / "no/folder", pytest.raises(FileNotFoundError, match="no/folder")),
        ("memory://taken", pytest.raises(ValueError, match="exists; it is not overwritten")),
    ):
        files_at("memory://taken").write("mine", b"a file")
        for count in (lambda to: ts.count_states(rows, to=to), lambda to: layer.histogram(to=to)):
            with error:
                count(to)
    for other in (tmp_path / "run.zarr", "memory://taken"):
        with pytest.raises(ValueError, match=r"exists; it is not|holds captured states"):
            ts.count_part(rows, 0, 2, other)


def test_the_other_kind_of_store_is_named(layer, tmp_path):
    ts.count_states(inputs(8)["new"], to=tmp_path / "counts.zarr")
    with pytest.raises(ts.errors.NoStore, match=r"holds counts, which store\.open_counts\(\)"):
        ts.Store(tmp_path / "counts.zarr")
    with pytest.raises(ts.errors.NoStore, match=r"which Store\(\) reads; open_stores\(\), report"):
        store.open_counts(tmp_path / "run.zarr")
