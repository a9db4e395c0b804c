"""Parts that tasks count, ranges that tasks merge, and what is wrong with them."""

import os
import shutil
import signal

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store import counted_parts, kept_runs
from tests.support.runs_on_disk import inputs


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kept_runs, "_CHUNK_BYTES", 256)
    monkeypatch.setattr(kept_runs, "_LEAST_CHUNK_ROWS", 32)


def count_parts(rows, of, folder):
    paths = [folder / str(number) for number in range(of)]
    for number, path in enumerate(paths):
        ts.count_part(rows, number, of, path)
    return paths


def new_layer(path, rows):
    with ts.Store(path, "x", chunk_bytes=1000) as store:
        point = ts.CapturePoint("layer", store)
        point.declare(8 * rows.shape[1])
        point.append(rows, instances=len(rows))
    return ts.Store(path)["layer"]


@pytest.mark.parametrize(
    ("width", "kind"), [(1, "skewed"), (8, "changing"), (8, "in order"), (65, "new")]
)
def test_parts_and_ranges_are_the_whole(width, kind, tmp_path):
    rows = inputs(width, 600)[kind]
    expected = ts.count_states(rows)
    paths = count_parts(rows, 3, tmp_path / "parts")
    merged = ts.merge_counts(paths)
    assert (merged.load(), merged.total) == (expected, len(rows))
    assert ts.merge_counts(paths, tmp_path / "whole").load() == expected
    for number in range(4):
        ts.merge_range(paths, number, 4, tmp_path / "ranges")
    counts = ts.store.open_counts(tmp_path / "ranges")
    assert counts.load() == expected
    assert (len(counts), counts.total) == (len(expected), len(rows))
    assert counts.entropy() == merged.entropy()
    assert counts.count_of(rows[7]) == (rows == rows[7]).all(axis=1).sum()
    assert counts.top(5) == merged.top(5)


def test_ranges_are_about_as_large(tmp_path):
    rows = inputs(8, 3000)["new"]
    paths = count_parts(rows, 2, tmp_path / "parts")
    sizes = [len(ts.merge_range(paths, number, 6, tmp_path / "out")) for number in range(6)]
    assert sum(sizes) == len(rows)
    assert min(sizes) > len(rows) // 6 * 0.8


def test_more_parts_and_ranges_than_rows(tmp_path):
    rows = np.array([[3], [0], [3]], np.uint8)
    paths = count_parts(rows, 5, tmp_path / "parts")
    sizes = [len(ts.merge_range(paths, number, 4, tmp_path / "out")) for number in range(4)]
    assert sizes[1:] == [1, 0, 0] or sum(sizes) == 2
    assert ts.store.open_counts(tmp_path / "out").load() == ts.count_states(rows)


def test_layers_of_a_store_are_read_in_parts(tmp_path):
    rows = inputs(3, 2000)["changing"]
    layer = new_layer(tmp_path / "run", rows)
    for number in range(3):
        path, seen = tmp_path / f"{number}", []
        part = ts.count_part(layer, number, 3, path, progress=lambda *n, to=seen: to.append(n))
        start, stop = (len(rows) * k // 3 for k in (number, number + 1))
        assert part.load() == ts.count_states(rows[start:stop])
        assert seen[-1] == (2 * (stop - start),) * 2  # each row is counted, and then written
        assert seen == sorted(seen)
        assert (stop - start, 2 * (stop - start)) in seen
        assert len(seen) > 3
    merged = ts.merge_counts(tmp_path / f"{number}" for number in range(3))
    assert merged.load() == layer.histogram()


@pytest.mark.parametrize("bounds", [(0, 0), (0, 7), (5, 5), (300, 700), (333, 666), (1999, 2000)])
def test_chunks_of_a_part(bounds, tmp_path):
    rows = inputs(3, 2000)["new"]
    layer = new_layer(tmp_path / "run", rows)
    chunks = [*layer.chunks(*bounds)]
    np.testing.assert_array_equal(np.concatenate([rows[:0], *chunks]), rows[slice(*bounds)])
    assert max(map(len, chunks), default=0) <= 333


def test_a_part_that_runs_again_is_not_counted_again(tmp_path, monkeypatch):
    rows = inputs(2, 1000)["skewed"]
    first = ts.count_part(rows, 1, 3, tmp_path / "part")
    ts.merge_range(count_parts(rows, 2, tmp_path), 1, 2, tmp_path / "out")
    before = os.stat(tmp_path / "part/zarr.json").st_mtime_ns
    monkeypatch.setattr(counted_parts, "write_counts", None)
    assert ts.count_part(rows, 1, 3, tmp_path / "part").load() == first.load()
    ts.merge_range([tmp_path / "0", tmp_path / "1"], 1, 2, tmp_path / "out")
    assert os.stat(tmp_path / "part/zarr.json").st_mtime_ns == before


def test_two_runs_of_a_task_at_the_same_time(tmp_path, monkeypatch):
    rows, path = inputs(2, 1000)["skewed"], tmp_path / "part"
    pieces = ts.StoredCounts.pieces

    def faster(self):
        monkeypatch.undo()
        ts.count_part(rows, 0, 2, path)  # the other run: it ends while this one writes
        return pieces(self)

    monkeypatch.setattr(ts.StoredCounts, "pieces", faster)
    assert ts.count_part(rows, 0, 2, path).load() == ts.count_states(rows[: len(rows) // 2])
    assert [each.name for each in tmp_path.iterdir()] == ["part"]


def test_something_else_at_the_path(tmp_path):
    rows = inputs(2, 1000)["new"]
    ts.count_part(rows, 0, 3, tmp_path / "part")
    for other in ((rows, 1, 3), (rows, 0, 2), (rows[1:], 0, 3)):
        with pytest.raises(ValueError, match=r"exists: it is part 0 of 3 of an array .*, not part"):
            ts.count_part(*other, tmp_path / "part")
    with pytest.raises(ValueError, match="not part 0 of 3 of monday"):
        ts.count_part(rows, 0, 3, tmp_path / "part", name="monday")
    ts.count_states(rows, to=tmp_path / "whole")
    with pytest.raises(ValueError, match="it is a whole"):
        ts.count_part(rows, 0, 1, tmp_path / "whole")
    with pytest.raises(ValueError, match="whole exists"):
        ts.merge_range([tmp_path / "whole"], 0, 1, tmp_path / "whole")


def test_parts_that_are_missing_or_given_twice(tmp_path):
    rows = inputs(2, 1000)["new"]
    paths = count_parts(rows, 4, tmp_path / "parts")
    shutil.copytree(paths[1], tmp_path / "copy")
    ts.count_states(rows, to=tmp_path / "whole")
    os.symlink(tmp_path / "whole", tmp_path / "link")
    shutil.copytree(tmp_path / "whole", tmp_path / "copy of all")
    for merge in (ts.merge_counts, lambda paths: ts.merge_range(paths, 0, 2, tmp_path / "out")):
        with pytest.raises(ValueError, match="rows of 2 bytes: part 2 of 4 is missing"):
            merge([*paths[:2], paths[3]])
        with pytest.raises(ValueError, match="parts 1, 3 of 4 are missing"):
            merge(paths[::2])
        with pytest.raises(ValueError, match=r"parts/1 is given twice"):
            merge([*paths, paths[1]])
        with pytest.raises(ValueError, match=r"part 1 of 4 of .* is given twice: .*parts/1 and"):
            merge([*paths, tmp_path / "copy"])
        for again in ("link", "copy of all"):
            with pytest.raises(ValueError, match=rf"{again} is given twice: .*whole, or a copy"):
                merge([tmp_path / "whole", tmp_path / again])
        with pytest.raises(ts.errors.NoStore, match="nowhere"):
            merge([*paths, tmp_path / "nowhere"])
        with pytest.raises(TypeError, match="list of paths"):
            merge(str(paths[0]))
        with pytest.raises(ValueError, match="nothing to merge"):
            merge([])
    assert not (tmp_path / "out").exists()


def test_parts_of_a_store_that_grew_in_between(tmp_path):
    layer = new_layer(tmp_path / "run", inputs(2, 500)["new"])
    ts.count_part(layer, 0, 2, tmp_path / "0")
    with ts.Store(tmp_path / "run", "a") as store:
        ts.CapturePoint("layer", store).append(np.zeros((3, 2), np.uint8), instances=3)
    ts.count_part(ts.Store(tmp_path / "run")["layer"], 1, 2, tmp_path / "1")
    with pytest.raises(ValueError, match=r"layer of run, 500 rows \(\w+\): part 1 of 2 is missing"):
        ts.merge_counts([tmp_path / "0", tmp_path / "1"])


def test_ranges_that_are_missing_or_of_other_counts(tmp_path):
    rows, out = inputs(8, 1000)["new"], tmp_path / "out"
    paths = count_parts(rows, 2, tmp_path / "parts")
    ts.merge_range(paths, 2, 3, out)
    with pytest.raises(ValueError, match="ranges 0, 1 of 3 are missing"):
        ts.store.open_counts(out)
    ts.merge_range(paths, 0, 3, out)
    with pytest.raises(ValueError, match="range 1 of 3 is missing"):
        ts.store.open_counts(out)
    others = count_parts(rows[::-1], 3, tmp_path / "others")
    ts.merge_range(others, 1, 3, out)
    with pytest.raises(ValueError, match=r"ranges 0, 2 of 3 are missing|range 1 of 3 is missing"):
        ts.store.open_counts(out)


def test_results_of_merging_are_merged(tmp_path):
    rows = inputs(8, 1000)
    for name in ("new", "skewed"):
        paths = count_parts(rows[name], 2, tmp_path / name / "parts")
        for number in range(3):
            ts.merge_range(paths, number, 3, tmp_path / name / "out")
    both = ts.merge_counts([tmp_path / "new/out", tmp_path / "skewed/out"])
    assert both.load() == ts.count_states(np.concatenate([rows["new"], rows["skewed"]]))
    numbers = (tmp_path / "new/out" / str(number) for number in (2, 0, 1))
    assert ts.merge_counts(numbers).load() == ts.count_states(rows["new"])


def test_other_neurons(tmp_path):
    for neurons in (7, 8):
        rows = np.zeros((3, 1), np.uint8)
        ts.count_part(rows, 0, 1, tmp_path / str(neurons), neurons=neurons, name=str(neurons))
    with pytest.raises(ValueError, match=r"7 has counts of 7 neurons, .*8 of 8"):
        ts.merge_counts([tmp_path / "7", tmp_path / "8"])
    with pytest.raises(ValueError, match="bits set beyond"):
        ts.count_part(np.array([[255]], np.uint8), 0, 1, tmp_path / "bits", neurons=7)


@pytest.mark.parametrize(("number", "of"), [(-1, 2), (2, 2), (0, 0)])
def test_shares_that_do_not_exist(number, of, tmp_path):
    with pytest.raises(ValueError, match="must be"):
        ts.count_part(np.zeros((3, 1), np.uint8), number, of, tmp_path / "part")
    with pytest.raises(ValueError, match="must be"):
        ts.merge_range([tmp_path], number, of, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_task_that_is_killed_while_it_writes(tmp_path, monkeypatch):
    rows, path = inputs(8, 1000)["new"], tmp_path / "part"
    monkeypatch.setattr(kept_runs, "_finished", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if not child:
        ts.count_part(rows, 0, 1, path)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    monkeypatch.undo()
    with pytest.raises(ts.errors.NoStore):
        ts.store.open_counts(path)
    assert ts.count_part(rows, 0, 1, path).load() == ts.count_states(rows)


def test_objects_of_a_task_that_was_killed_are_overwritten():
    from obstore.store import MemoryStore

    from tensorstate_gpu.store.files import files_at

    rows, objects = inputs(8, 1000)["new"], MemoryStore()
    files_at(objects).write("states/c/0/0", b"half")
    assert ts.count_part(rows, 0, 1, objects).load() == ts.count_states(rows)
    other = MemoryStore()
    files_at(other).write("mine", b"a file")
    with pytest.raises(ValueError, match="exists"):
        ts.count_part(rows, 0, 1, other)
    assert files_at(other).read("mine") == b"a file"


def test_progress_of_merging(tmp_path):
    paths = count_parts(inputs(8, 1000)["new"], 3, tmp_path / "parts")
    for merge in (
        lambda report: ts.merge_counts(paths, tmp_path / "whole", progress=report),
        lambda report: ts.merge_range(paths, 1, 2, tmp_path / "out", progress=report),
    ):
        seen = []
        merge(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 10
