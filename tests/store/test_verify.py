"""Store.verify(): every file that a commit lists is read, and all that is wrong is named."""

import time

import numpy as np
import pytest
from zarr.codecs import ZstdCodec

import tensorstate_gpu as ts
from tensorstate_gpu.store import columns, info
from tests.support.labelled_store import ROWS, capture_into, rewrite

pytestmark = pytest.mark.usefixtures("small_chunks")


def found(run):
    """The problems, without the place where the store lies."""
    return [problem.replace(f"{run}/", "") for problem in ts.Store(run).verify().problems]


def test_a_whole_store(run):
    found = ts.Store(run).verify()
    assert (found.chunks, found.rows) == (4 + 4 + 2, 35 + 12)
    files = [file for file in run.rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert (found.bytes, len(files)) == (sum(file.stat().st_size for file in files), 10)
    assert (found.problems, found.orphans, found.good) == ([], [], True)
    with pytest.raises(AttributeError):
        found.rows = 3


def test_every_problem_is_named(run):
    (run / "a/c/0/0").unlink()
    (run / "a/c/3/0").write_bytes(b"")
    swapped = (run / "a/c/1/0").read_bytes()  # whole, but not what was committed there
    (run / "a/c/2/0").write_bytes(swapped)
    (run / "labels/a/c/3").write_bytes((run / "labels/a/c/3").read_bytes()[:-1])
    (run / "labels/zarr.json").unlink()
    (run / "b/c/1/0").unlink()
    (run / "b/c/1/0").mkdir()
    problems = found(run)
    assert len(problems) == 6
    assert problems[0] == "labels/zarr.json is missing, with captured states in its group"
    assert problems[1] == "a/c/0/0 is missing, with captured states in it"
    assert problems[2] == "a/c/2/0 is damaged: it is not what was committed"
    assert problems[3].startswith("a/c/3/0 is damaged: ")
    assert problems[4].startswith("labels/a/c/3 is damaged: ")
    assert "b/c/1/0" in problems[5]
    assert not ts.Store(run).verify().good


@pytest.mark.parametrize("compressor", [None, ZstdCodec(level=1)])
def test_chunks_are_checked_where_their_array_cannot_be_read(compressor, tmp_path):
    run = tmp_path / "run"
    with ts.Store(run, "x", compressor=compressor) as store:
        capture_into(store)
    (run / "a/zarr.json").write_text("{")
    (run / "labels/a/zarr.json").unlink()
    (run / "a/c/0/0").unlink()
    damaged = bytearray((run / "a/c/1/0").read_bytes())
    damaged[3] ^= 1
    (run / "a/c/1/0").write_bytes(damaged)
    (run / "labels/a/c/2").write_bytes(b"abc")
    problems = found(run)
    assert problems[0].startswith("a/zarr.json is damaged: ")
    assert problems[1:] == [
        "a/c/0/0 is missing, with captured states in it",
        "a/c/1/0 is damaged: its checksum does not fit",
        "labels/a/zarr.json is missing, with captured states in its array",
        "labels/a/c/2 is damaged: its checksum does not fit",
    ]


@pytest.mark.parametrize(("shown", "problems"), [(36, 1), (35, 0), (20, 0), (0, 0)])
def test_rows_that_plain_zarr_would_show_without_a_commit(shown, problems, run):
    rewrite(run / "a/zarr.json", lambda document: document["shape"].__setitem__(0, shown))
    expected = [f"a/zarr.json shows {shown} rows, 35 are committed"]
    assert found(run) == expected[:problems]


def test_the_document_of_another_array(run):
    with ts.Store(run.parent / "other", "x") as store:
        point = ts.CapturePoint("a", store)
        point.declare(17)
        point.append(np.zeros((35, 3), np.uint8), 35)
    other = (run.parent / "other/a/zarr.json").read_text()
    (run / "a/zarr.json").write_text(other)
    problem, *_ = found(run)
    assert problem.startswith("a/zarr.json is damaged: chunks of ")


def test_more_labels_than_instances(run):
    def change(document):
        layer = document["attributes"]["tensorstate"]["layers"]["a"]
        layer["batches"], layer["instances"] = [[5, 7]], 5

    rewrite(run / "zarr.json", change)
    assert found(run) == ["zarr.json lists 7 labels of 'a', and 5 instances"]


def test_orphans_are_no_problem(run):
    orphans = ["a/c/4/0", "a/c/7/0.partial", "mine/zarr.json", "note.txt"]
    for key in orphans:
        (run / key).parent.mkdir(parents=True, exist_ok=True)
        (run / key).write_text("mine")
    verified = ts.Store(run).verify()
    assert (verified.problems, verified.orphans, verified.chunks) == ([], orphans, 10)


def test_what_is_captured_but_not_committed_is_an_orphan(tmp_path):
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        point, _ = capture_into(store)
        store.commit()
        point.append(ROWS, 35, np.arange(35))
        store.session.writer._background.wait()
        for verified in (store.verify(), ts.Store(tmp_path / "run").verify()):
            assert (verified.rows, verified.problems) == (47, [])
            assert "a/c/5/0" in verified.orphans
        assert "a/c/3/0" not in verified.orphans  # begun before, and written anew
    assert ts.Store(tmp_path / "run").verify().orphans == []


def test_commits_during_a_check_do_no_harm(tmp_path):
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        point, _ = capture_into(store)
        store.commit()
        reader = ts.Store(tmp_path / "run")

        def capture_on(done, chunks):
            point.append(ROWS[:7], 7, np.arange(7))
            store.commit()

        assert reader.verify(capture_on).problems == []
        assert reader.verify().rows == 47 + 70  # as they are committed now


@pytest.mark.parametrize("damage", ["missing", "garbage", "flipped", "newer"])
def test_an_unreadable_record_is_an_error_as_at_opening(damage, run):
    store = ts.Store(run)
    file = run / "zarr.json"
    text = file.read_text()
    file.unlink()
    if damage != "missing":
        changed = {
            "garbage": "[",
            "flipped": text.replace('"commits":1', '"commits":2'),
            "newer": text.replace('"format":3', '"format":5'),
        }
        assert changed[damage] != text
        file.write_text(changed[damage])
    for verify in (store.verify, lambda: ts.Store(run)):
        with pytest.raises(ValueError, match=r"no captured states|damaged|format 5"):
            verify()


def test_an_empty_store_and_a_layer_without_rows(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        assert store.verify().good
        ts.CapturePoint("layer", store).declare(8)
        store.commit()
        verified = store.verify()
    assert (verified.chunks, verified.rows, verified.problems, verified.orphans) == (0, 0, [], [])


def test_instances_without_states(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("layer", store)
        point.declare(8)
        point.append(np.empty((0, 1), np.uint8), 3, ["a", "b", "c"])
    verified = ts.Store(tmp_path / "run").verify()
    assert (verified.rows, verified.problems, verified.orphans) == (0, [], [])


def test_string_labels(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("größe/1", store)
        point.declare(16)
        point.append(ROWS, 35, [f"ü{k}" for k in range(35)])
    assert ts.Store(tmp_path / "run").verify().good
    (tmp_path / "run/labels/gr%C3%B6%C3%9Fe%2F1/c/34").unlink()
    assert found(tmp_path / "run") == [
        "labels/gr%C3%B6%C3%9Fe%2F1/c/34 is missing, with captured states in it"
    ]


@pytest.mark.parametrize("kind", ["memory", "objects", "folder of objects"])
def test_stores_elsewhere(kind, tmp_path):
    if kind == "memory":
        where = f"memory://{tmp_path}"
    else:
        objects = pytest.importorskip("obstore.store")
        there = objects.LocalStore(tmp_path) if kind != "objects" else objects.MemoryStore()
        where = there
    with ts.Store(where, "x") as store:
        capture_into(store)
        store.commit()
        verified = store.verify()
        assert (verified.chunks, verified.problems, verified.orphans) == (10, [], [])
        sizes = info.file_sizes(store._files)
        assert sum(sizes[key] for key in sizes if not key.endswith(".json")) == verified.bytes
        store._files.delete("a/c/1/0")
        store._files.write("note", b"mine")
        verified = store.verify()
    assert ["a/c/1/0 is missing" in problem for problem in verified.problems] == [True]
    assert verified.orphans == ["note"]


def test_files_that_cannot_be_listed(run, monkeypatch):
    def refuse(*_):
        raise OSError("this server lists nothing")

    monkeypatch.setattr("tensorstate_gpu.store.folder.Folder.list_sizes", refuse)
    verified = ts.Store(run).verify()
    assert (verified.good, verified.chunks, verified.orphans) == (True, 10, None)


def test_progress_and_ctrl_c(run):
    seen = []
    ts.Store(run).verify(lambda *numbers: seen.append(numbers))
    assert seen == [(done, 10) for done in range(1, 11)]

    def stop(done, chunks):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.Store(run).verify(stop)


def test_a_check_that_is_interrupted_reads_no_further(tmp_path, monkeypatch):
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("layer", store)
        point.declare(16)
        point.append(np.zeros((10_000, 2), np.uint8), 10_000)
    read = []
    whole = columns.ArrayReader.chunk

    def counted(self, index):
        read.append(index)
        time.sleep(0.03)  # on a busy machine the one who stops it comes late
        return whole(self, index)

    monkeypatch.setattr(columns.ArrayReader, "chunk", counted)

    def stop(done, chunks):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.Store(tmp_path / "run").verify(stop)
    assert len(read) < 500  # of 1,000
