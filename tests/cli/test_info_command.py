"""tensorstate info: stores of states, layers that keep counts, and stores of counts."""

import json

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store import folder
from tests.support.labelled_store import ROWS
from tests.support.points import new_point

pytestmark = pytest.mark.usefixtures("small_chunks")


def test_info(did, run):
    (run / "note").write_text("mine")
    code, out, _ = did("info", run, "--json")
    found = json.loads(out)
    layers = found.pop("layers")
    record = ts.Store(run).record
    files = [file for file in run.rglob("*") if file.is_file()]
    assert (code, found) == (0, {
        "path": str(run),
        "format": 3,
        "version": ts.__version__,
        "started": record.started,
        "committed": record.committed,
        "commits": 1,
        "closed": True,
        "bytes": sum(file.stat().st_size for file in files) - 4,
        "not_committed": {"files": 1, "bytes": 4},
    })  # fmt: skip
    parts = [*(run / "a").rglob("*"), *(run / "labels/a").rglob("*")]
    assert layers[0] == {
        "name": "a",
        "keep": "states",
        "neurons": 16,
        "axis": 1,
        "threshold": 0.0,
        "rows": 35,
        "instances": 7,
        "states_per_instance": 5,
        "unassigned_rows": 0,
        "labels": 7,
        "units": 0,
        "chunks": 8,
        "bytes": sum(part.stat().st_size for part in parts if part.is_file()),
    }
    assert (layers[1]["name"], layers[1]["labels"], layers[1]["chunks"]) == ("b", 0, 2)
    code, out, _ = did("info", run)
    assert code == 0
    for text in (str(run), "tensorstate_gpu " + ts.__version__, record.started, "1 file", "note"):
        assert (text in out) == (text != "note")
    a = next(line.split() for line in out.splitlines() if line.startswith("a "))
    assert a[:8] == ["a", "16", "1", ">", "0.0", "35", "7", "5"]


def test_info_reads_only_metadata(did, run, monkeypatch):
    read = []
    whole = folder.Folder.read
    monkeypatch.setattr(
        folder.Folder, "read", lambda self, key: (read.append(key), whole(self, key))[1]
    )
    assert did("info", run)[0] == 0
    assert read == ["zarr.json"]


def test_info_of_layers_of_all_kinds(did, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        ts.CapturePoint("waiting", store)
        firing = ts.CapturePoint("firing\n", store, firing=lambda x: x > 1)
        wide = ts.CapturePoint("wide", store, threshold=[0.5] * 16)
        for point in (firing, wide):
            point.declare(16)
            point.append(ROWS[:30], 30)
        wide.append(ROWS[:4], 2)
    code, out, _ = did("info", tmp_path / "run")
    assert code == 0
    assert out.splitlines()[-3].split()[:2] == ["waiting", "-"]
    assert r"'firing\n'" in out
    assert "by neuron" in out
    waiting, firing, wide = json.loads(did("info", tmp_path / "run", "--json")[1])["layers"]
    assert (waiting["neurons"], waiting["rows"], waiting["bytes"]) == (None, 0, 0)
    assert "lambda" in firing["firing"]
    assert (wide["threshold"], wide["states_per_instance"]) == ([0.5] * 16, None)


def test_info_of_layers_that_keep_counts(did, tmp_path):
    paths = [tmp_path / f"run-{rank}" for rank in range(2)]
    for path in paths:
        with ts.Store(path, "x", commit_seconds=None) as store:
            new_point(store, "unused", neurons=16, keep="counts")
            point = new_point(store, "counted", neurons=16, keep="counts")
            point.append(ROWS[:30], 30)
            store.commit()
            point.append(ROWS[30:33], 3)
    distinct = len({*map(bytes, ROWS[:30])}) + len({*map(bytes, ROWS[30:33])})
    layer = json.loads(did("info", paths[0], "--json")[1])["layers"][1]
    assert (layer["rows"], layer["runs"], layer["distinct_at_most"]) == (33, 2, distinct)
    files = {*(paths[0] / "counted").rglob("*"), *(paths[0] / "_ledger/counted").rglob("*")}
    files -= {paths[0] / group / "zarr.json" for group in ts.Store(paths[0]).record.groups}
    assert layer["bytes"] == sum(file.stat().st_size for file in files if file.is_file())
    out = did("info", paths[0])[1].splitlines()
    assert "(2 commits)" in out[3]
    assert out[-4].split()[-2:] == ["distinct", "runs"]
    assert out[-1].split()[-3:] == ["<=", f"{distinct}", "2"]
    both = json.loads(did("info", *paths, "--json")[1])["layers"][1]
    assert (both["rows"], both["runs"], both["distinct_at_most"]) == (66, 4, 2 * distinct)


def test_info_of_stores_of_counts(did, refused, run, tmp_path):
    counts = ts.Store(run)["a"].histogram(to=tmp_path / "counts")
    files = [file for file in (tmp_path / "counts").rglob("*") if file.is_file()]
    whole = {
        "path": str(tmp_path / "counts"),
        "neurons": 16,
        "states": 35,
        "distinct": len(counts),
        "share": None,
        "chunks": 3,
        "bytes": sum(file.stat().st_size for file in files),
    }
    assert json.loads(did("info", tmp_path / "counts", "--json")[1]) == whole
    code, out, errors = did("info", tmp_path / "counts")
    assert (code, errors) == (0, "")
    assert out.splitlines()[-1].split()[:4] == [whole["path"], "16", "35", f"{len(counts)}"]
    for number in range(2):
        ts.store.merge_range([tmp_path / "counts"], number, 2, tmp_path / "ranges")
    found = json.loads(did("info", tmp_path / "ranges", "--json")[1])["counts"]
    assert sum(each["states"] for each in found) == 35
    assert [each["share"][:12] for each in found] == ["range 0 of 2", "range 1 of 2"]
    paths = [tmp_path / "ranges", tmp_path / "counts"]
    assert len(json.loads(did("info", *paths, "--json")[1])["counts"]) == 3
    assert "it holds counts, which store.open_counts() reads" in refused("info", run, paths[1])


def test_info_of_counts_needs_no_list_of_files(did, run, tmp_path, monkeypatch):
    ts.Store(run)["a"].histogram(to=tmp_path / "counts")
    for number in range(2):
        ts.store.merge_range([tmp_path / "counts"], number, 2, tmp_path / "ranges")

    def cannot(*_):
        raise OSError("cannot list")

    monkeypatch.setattr(folder.Folder, "list_folders", cannot)
    monkeypatch.setattr("tensorstate_gpu.store.counts_info.file_sizes", lambda _: None)
    found = json.loads(did("info", tmp_path / "ranges", "--json")[1])["counts"]
    assert [each["bytes"] for each in found] == [None, None]
    assert "holds no captured states" in did("info", tmp_path / "nothing")[2]


def test_info_of_counts_reads_only_records(did, run, tmp_path, monkeypatch):
    ts.Store(run)["a"].histogram(to=tmp_path / "counts")
    read = []
    whole = folder.Folder.read
    monkeypatch.setattr(
        folder.Folder, "read", lambda self, key: (read.append(key), whole(self, key))[1]
    )
    assert did("info", tmp_path / "counts")[0] == 0
    assert {*read} == {"zarr.json"}
