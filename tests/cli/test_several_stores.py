"""The commands on several stores, by their paths or by a pattern."""

import json

import pyarrow.parquet as pq
import pytest

import tensorstate_gpu as ts
from tests.support.labelled_store import capture_into, write_run
from tests.support.points import new_point

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture
def runs(tmp_path):
    """A pattern that two stores match."""
    for rank in range(2):
        write_run(tmp_path / f"run-{rank}.zarr")
    return tmp_path / "run-*.zarr"


@pytest.fixture
def unfinished(runs):
    """The same, of which the third is still written."""
    with ts.Store(runs.parent / "run-2.zarr", "x") as store:
        capture_into(store)
        store.commit()
        yield runs


def test_report(did, runs):
    expected = ts.open_stores(runs).report(by_label=True)
    for given in ([runs], sorted(runs.parent.iterdir())):
        code, out, errors = did("report", *given, "--by-label")
        assert (code, errors) == (0, "")
        assert out.splitlines()[:8] == str(expected).splitlines()[:8]
        assert "b: no labels were stored" in out
    found = json.loads(did("report", runs, "--json")[1])
    assert [layer["states"] for layer in found["layers"]] == [70, 24]


def test_unfinished_stores(did, refused, unfinished):
    for command in (["report", unfinished], ["export", unfinished, "--format", "parquet"]):
        line = refused(*command)
        assert "1 of 3 stores are not finished" in line
        assert "run-2.zarr. unfinished='accept' reads" in line
        assert line.endswith("(as an option: --unfinished accept)")
    out = did("report", unfinished, "--unfinished", "accept")[1]
    assert "unfinished          1 of 3 stores, only what they have committed is counted: /" in out
    out = did("info", unfinished)[1]
    assert [line.split()[1] for line in out.splitlines()[2:5]] == ["properly", "properly", "not"]


def test_info(did, runs):
    code, out, _ = did("info", runs, "--json")
    found = json.loads(out)
    assert (code, found) == (0, ts.open_stores(runs).info())
    assert [layer["rows"] for layer in found["layers"]] == [70, 24]
    code, out, _ = did("info", runs)
    a = next(line.split() for line in out.splitlines() if line.startswith("a "))
    assert (code, a[:8]) == (0, ["a", "16", "1", ">", "0.0", "70", "14", "5"])


def test_verify(did, runs):
    code, out, _ = did("verify", runs)
    assert (code, out.count("all as committed")) == (0, 2)
    (runs.parent / "run-1.zarr/a/c/0/0").unlink()
    code, out, _ = did("verify", runs)
    assert code == 1
    assert "run-0.zarr: 47 rows" in out
    assert "run-1.zarr: 1 problem" in out
    found = json.loads(did("verify", runs, "--json")[1])["stores"]
    assert [each["good"] for each in found] == [True, False]


def test_stores_that_do_not_belong_together_are_verified(did, refused, runs):
    with ts.Store(runs.parent / "other", "x") as store:
        new_point(store, "c")
    places = [runs.parent / "run-0.zarr", runs.parent / "other"]
    assert did("verify", *places)[0] == 0
    assert "has the layer 'a'" in refused("report", *places)


def test_export(did, refused, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, _ = did("export", runs, "--format", "parquet")
    assert code == 0
    expected = ts.open_stores(runs)["a"].to_arrow()
    assert pq.read_table(tmp_path / "run.parquet/a.parquet").equals(expected)
    assert did("export", runs.parent / "run-1.zarr", "--format", "parquet")[0] == 0
    assert (tmp_path / "run-1.parquet").is_dir()
    code, out, _ = did("export", runs, "--format", "parquet", "--counts", "--to", "counts")
    assert (code, "counts/b.parquet: 12 states" in out) == (0, True)
    assert "a zip file holds one store" in refused("export", runs, "--format", "zip")


def test_no_store_matches(refused, tmp_path):
    assert f"no store matches {tmp_path}/*" in refused("report", tmp_path / "*")
