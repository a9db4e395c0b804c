"""The commands on a store in an object store, by URL."""

import json

import numpy as np
import obstore
import pyarrow.parquet as pq
import pytest

import tensorstate_gpu as ts
from tests.support.labelled_store import ROWS, capture_into


@pytest.fixture
def run_url(by_url):
    """The URL of the store that labelled_store.py describes."""
    with ts.Store(by_url, "x") as store:
        capture_into(store)
    return by_url


def test_report_and_info(did, run_url):
    code, out, errors = did("report", run_url, "--json")
    assert (code, errors) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(ts.Store(run_url).report().as_dict()))
    code, out, _ = did("info", run_url)
    assert (code, run_url in out) == (0, True)


def test_export(did, run_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, _ = did("export", run_url, "--format", "parquet")
    assert code == 0
    rows = pq.read_table(tmp_path / "run.parquet/a.parquet")
    assert rows["state"].to_pylist() == [row.tobytes() for row in ROWS]
    np.testing.assert_array_equal(rows["label"], np.repeat(np.arange(7), 5))


def test_verify(did, run_url, s3):
    assert did("verify", run_url)[0] == 0
    obstore.delete(s3, "run.zarr/a/c/0/0")
    code, out, _ = did("verify", run_url)
    assert code == 1
    assert f"{run_url}/a/c/0/0 is missing" in out


@pytest.mark.parametrize("command", ["report", "verify", "info", "export"])
def test_a_url_where_there_is_no_store(command, refused, by_url):
    arguments = ["--format", "parquet"] if command == "export" else []
    line = refused(command, by_url, *arguments)
    assert f"{by_url} holds no captured states" in line
