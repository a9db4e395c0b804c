"""The commands on stores: report, verify, export; their text, their JSON, their files."""

import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.storage import ZipStore

import tensorstate_gpu as ts
from tensorstate_gpu.reporting import label_divergences
from tests.support.labelled_store import ROWS, rewrite
from tests.support.no_arrow import forget_arrow
from tests.support.points import new_point, rows_of

pytestmark = pytest.mark.usefixtures("small_chunks")


# ---- report --------------------------------------------------------------------------------------


def test_report_by_label(did, run):
    code, out, errors = did("report", run, "--by-label")
    assert (code, errors) == (0, "")
    whole, _, labelled, told, without = out.rstrip("\n").split("\n\n")
    assert [line.split()[0] for line in whole.splitlines()[2:]] == ["a", "b"]
    lines = labelled.splitlines()
    assert lines[0] == "a, by label"
    assert lines[1].split() == [
        *("label", "states", "distinct", "entropy", "efficiency", "ceiling", "coverage"),
        *("95", "%", "range", "quality"),
    ]
    assert [line.split()[:3] for line in lines[3:]] == [[str(k), "5", "5"] for k in range(7)]
    assert told.startswith("a state tells of its label  ")
    assert without == "b: no labels were stored"


def test_divergences_that_take_long_on_the_page(did, refused, run, tmp_path, monkeypatch):
    monkeypatch.setattr(label_divergences, "MOST_LABELS", 2)
    whole, short = tmp_path / "whole.html", tmp_path / "short.html"
    assert "report --divergences" in did("report", run, "--by-label", "--html", short)[1]
    code, out, _ = did("report", run, "--divergences", "--html", whole)
    assert (code, "not compared" in out, "a, by label" in out) == (0, False, True)
    told = "Which labels the states tell apart"
    without, with_picture = (
        page.read_text(encoding="utf-8").count(told) for page in (short, whole)
    )
    assert with_picture == without + 1  # its script has these words, too
    assert "--html FILE" in refused("report", run, "--divergences")


def test_report_in_json(did, run):
    code, out, errors = did("report", run, "--json")
    assert (code, errors) == (0, "")
    expected = json.loads(json.dumps(ts.Store(run).report().as_dict()))
    assert json.loads(out) == expected
    code, out, _ = did("report", run, "--json", "--by-label")
    found = json.loads(out)
    assert found.pop("labels")["b"] is None
    assert list(found.pop("label_information")) == ["a"]
    assert found.pop("not_compared") == {}
    assert found == expected
    by_label = json.loads(out)["labels"]["a"]
    expected = ts.Store(run)["a"].counts_by()
    assert [one["label"] for one in by_label] == list(range(7))
    assert [one["entropy"] for one in by_label] == [one.entropy() for one in expected.values()]
    assert set(by_label[0]) == {
        *("label", "states", "distinct", "entropy", "efficiency", "ceiling", "coverage", "quality"),
        *("estimate", "standard_error", "lower", "upper"),
    }


def test_layers_that_are_out_of_step(did, tmp_path):
    path = tmp_path / "run"
    points = [ts.CapturePoint(name, path) for name in "abc"]
    for point, inputs in zip(points, (6, 6, 5), strict=True):
        point.declare(8, 1)
        point.append(np.arange(inputs, dtype=np.uint8)[:, None], inputs)
    ts.Run(points).close()
    for flags, includes in (([], False), (["--include-out-of-step"], True)):
        found = json.loads(did("report", path, "--json", *flags)[1])
        expected = ts.Store(path).report(include_out_of_step=includes)
        assert found["out_of_step"] == ["c"]
        assert found["network_efficiency"] == expected.network_efficiency
    assert expected.network_efficiency != ts.Store(path).report().network_efficiency


def test_a_report_as_a_page(did, run, tmp_path):
    page = tmp_path / "report.html"
    code, out, errors = did("report", run, "--html", page)
    assert (code, errors) == (0, "")
    assert out.endswith(f"\n\nThe page with charts: {page}\n")
    text = page.read_text(encoding="utf-8")
    assert f"<dt>store</dt><dd>{run}</dd>" in text
    assert "<h2>By label</h2>" not in text
    code, _, errors = did("report", run, "--html", page)
    assert (code, errors) == (2, f"tensorstate: {page} exists; it is not overwritten\n")
    code, out, _ = did("report", run, "--json", "--by-label", "--html", tmp_path / "labels.html")
    assert json.loads(out)["labels"]["b"] is None
    assert "<h2>By label</h2>" in (tmp_path / "labels.html").read_text(encoding="utf-8")


def test_a_tilde_is_the_home_folder(did, run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    monkeypatch.setenv("USERPROFILE", str(run.parent))
    assert did("info", f"~/{run.name}")[1].startswith(f"path       {run}\n")
    assert did("export", f"~/{run.name}", "--format", "zip", "--to", "~/out.zip")[0] == 0
    assert did("export", f"~/{run.name}", "--format", "parquet", "--to", "~/out")[0] == 0
    assert (run.parent / "out.zip").is_file()
    assert (run.parent / "out" / "a.parquet").is_file()


def test_report_names_layers_without_rows(did, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        ts.CapturePoint("unused", store)
        point = ts.CapturePoint("used", store)
        point.declare(16)
        point.append(ROWS[:20], 20, np.arange(20))
    code, out, errors = did("report", tmp_path / "run")
    assert (code, errors) == (0, "")
    assert out.splitlines()[2].startswith("used")
    assert out.splitlines()[-1] == "nothing captured of  unused"
    code, out, _ = did("report", tmp_path / "run", "--json", "--by-label")
    assert (code, json.loads(out)["missing"]) == (0, ["unused"])
    assert list(json.loads(out)["labels"]) == ["used"]
    with ts.Store(tmp_path / "empty", "x") as store:
        ts.CapturePoint("unused", store)
    code, out, errors = did("report", tmp_path / "empty")
    assert (code, out) == (2, "")
    assert "holds no states of 'unused'" in errors


def test_report_of_string_labels_and_of_too_few(did, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        for name in ("all", "some"):
            point = ts.CapturePoint(name, store)
            point.declare(16)
            point.append(ROWS[:20], 20, ["cat", "a\ndog"] * 10)
        point.append(ROWS[20:], 15)
    code, out, _ = did("report", tmp_path / "run", "--by-label")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if " 10 " in line] == [r"'a\ndog'", "cat"]
    assert out.endswith("some: labels were stored for 20 of 35 instances\n")


def test_the_folder_of_a_demo_is_a_store_too(did, run, tmp_path):
    (tmp_path / "demo").mkdir()
    run.rename(tmp_path / "demo/states.zarr")
    (tmp_path / "demo/results.json").write_text('{"accuracy": 0.5, "beta": 1}')
    code, out, _ = did("report", tmp_path / "demo")
    assert (code, "accuracy" in out, "aIQ (beta 1)" in out) == (0, True, True)
    assert json.loads(did("report", tmp_path / "demo", "--json")[1])["accuracy"] == 0.5
    for command in ("verify", "info"):
        assert did(command, tmp_path / "demo")[0] == 0


def test_a_layer_that_is_called_as_the_demos_files(did, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        for name in ("states.zarr", "results.json"):
            point = ts.CapturePoint(name, store)
            point.declare(16)
            point.append(ROWS, 35)
    code, out, _ = did("report", tmp_path / "run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["states.zarr", "results.json"]


# ---- verify --------------------------------------------------------------------------------------


def test_verify_of_a_single_row(did, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("relu", store)
        point.declare(16)
        point.append(ROWS[:1], 1)
    code, out, errors = did("verify", tmp_path / "run")
    assert (code, errors) == (0, "")
    assert re.search(r": 1 row in [12] chunks? \(", out)
    assert "1 chunks" not in out
    assert str(ts.open_stores(tmp_path / "run")).startswith("1 store (")


def test_verify(did, run):
    code, out, errors = did("verify", run)
    assert (code, errors) == (0, "")
    verified = ts.Store(run).verify()
    assert out == f"{run}: 47 rows in 10 chunks ({verified.bytes} bytes), all as committed\n"
    code, out, _ = did("verify", run, "--json")
    assert json.loads(out) == {
        "path": str(run),
        "good": True,
        "chunks": 10,
        "bytes": verified.bytes,
        "rows": 47,
        "problems": [],
        "orphans": [],
    }


def test_verify_names_every_problem(did, run):
    (run / "a/c/1/0").unlink()
    (run / "b/zarr.json").write_text("{")
    (run / "note").write_text("mine")
    code, out, errors = did("verify", run)
    assert (code, errors) == (1, "")
    lines = out.splitlines()
    assert lines[0] == f"{run}/a/c/1/0 is missing, with captured states in it"
    assert lines[1].startswith(f"{run}/b/zarr.json is damaged")
    assert lines[2] == f"{run}: 2 problems"
    assert lines[3:] == ["1 file that no commit lists: note"]
    code, out, _ = did("verify", run, "--json")
    found = json.loads(out)
    assert (code, found["good"], found["problems"], found["orphans"]) == (
        1,
        False,
        lines[:2],
        ["note"],
    )


def test_escape_sequences_of_a_store_do_not_reach_the_terminal(did, run):
    def change(document):
        text = json.dumps(document).replace(ts.__version__, r"1\u001b[31m")
        text = re.sub(r'"(started|committed)": "', r'"\1": "\\u001b[31m', text)
        document.update(json.loads(text))

    rewrite(run / "zarr.json", change)
    run = run.rename(run.with_name("run\x1b[31m"))
    (run / "note\x1b[31m").touch()
    printed = [did(command, run)[1] for command in ("info", "verify")]
    assert r"'1\x1b[31m'" in printed[0]
    assert printed[0].count(r" '\x1b[31m20") == 2  # started and committed
    assert repr(str(run)) in printed[0]
    assert r"'note\x1b[31m'" in printed[1]
    assert "\x1b" not in "".join(printed)
    # Errors and what verify finds are lines, too.
    (run / "a/c/2/0").write_bytes(b"{")
    printed = [did("verify", run)[1], did("report", run)[2], did("info", "no\x1b[31m\nstore")[2]]
    assert r"run\x1b[31m" in printed[1]
    assert r"no\x1b[31m store" in printed[2]
    assert "\x1b" not in "".join(printed)


# ---- export --------------------------------------------------------------------------------------


def test_export_to_parquet(did, run, tmp_path):
    code, out, errors = did("export", run, "--format", "parquet", "--to", tmp_path / "out")
    assert (code, errors) == (0, "")
    lines = out.splitlines()
    assert lines == [f"{tmp_path}/out/a.parquet: 35 rows", f"{tmp_path}/out/b.parquet: 12 rows"]
    assert sorted(os.listdir(tmp_path / "out")) == ["a.parquet", "b.parquet"]
    for name in "ab":
        table = pq.read_table(tmp_path / f"out/{name}.parquet")
        assert table.equals(ts.Store(run)[name].to_arrow(), check_metadata=True)


@pytest.mark.parametrize("to", ["parquet", "zip"])
def test_export_of_a_layer_by_its_name(to, did, tmp_path):
    points = [new_point(name=name) for name in ("conv_post_states", "head_post_states")]
    for point in points:
        point.append(rows_of(3), 3)
    ts.Run(points).save(tmp_path / "run.zarr")
    out = ("--to", tmp_path / "o")
    layers = ("--layer", "conv", "--layer", "conv_post_states")  # the same
    code, printed, _ = did("export", tmp_path / "run.zarr", "--format", to, *out, *layers)
    assert (code, printed.count("\n")) == (0, 1)
    if to == "parquet":
        assert os.listdir(tmp_path / "o") == ["conv_post_states.parquet"]


def test_export_of_layers_whose_names_leave_no_room_for_a_suffix(did, tmp_path):
    names = [*("x" * length for length in (247, 248, 255)), "x" * 254 + "y", "\u4e2d" * 28]
    with ts.Store(tmp_path / "run", "x") as store:
        for rows, name in enumerate(names, 1):
            point = ts.CapturePoint(name, store)
            point.declare(16)
            point.append(ROWS[:rows], rows)
    distinct = [len({*map(bytes, ROWS[:rows])}) for rows in range(1, 6)]
    for counts in ([], ["--counts"]):
        out = tmp_path / f"out{len(counts)}"
        to = (*counts, "--to", out)
        code, printed, errors = did("export", tmp_path / "run", "--format", "parquet", *to)
        assert (code, errors) == (0, "")
        files = [Path(line.partition(": ")[0]) for line in printed.splitlines()]
        assert files[0].name == names[0] + ".parquet"
        assert sorted(files) == sorted(out.iterdir())  # a file each
        read = [pq.read_table(file) for file in files]
        assert [len(table) for table in read] == distinct if counts else [1, 2, 3, 4, 5]


def test_export_of_counts_of_one_layer(did, run, tmp_path):
    code, out, _ = did(
        "export", run, "--format", "parquet", "--counts", "--layer", "b", "--to", tmp_path / "out"
    )
    assert (code, out) == (0, f"{tmp_path}/out/b.parquet: 12 states\n")
    table = pq.read_table(tmp_path / "out/b.parquet")
    assert table.equals(ts.Store(run)["b"].histogram().to_arrow())


def test_export_to_zip(did, run, tmp_path):
    code, out, errors = did("export", run, "--format", "zip", "--to", tmp_path / "run.zip")
    assert (code, out, errors) == (0, f"{tmp_path}/run.zip: 2 layers\n", "")
    group = zarr.open_group(ZipStore(tmp_path / "run.zip", mode="r"), mode="r")
    np.testing.assert_array_equal(group["a"][:], ROWS)
    one = ("--layer", "b", "--layer", "b")
    assert did("export", run, "--format", "zip", *one, "--to", tmp_path / "b.zip")[0] == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith(("a/", "labels"))]


@pytest.mark.parametrize("to", ["parquet", "zip"])
def test_an_export_is_named_after_its_store(to, did, refused, run, tmp_path, monkeypatch):
    run.rename(tmp_path / "my.run.zarr")
    monkeypatch.chdir(tmp_path / "my.run.zarr")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert did("export", ".", "--format", to, "--to", elsewhere / f"my.run.{to}")[0] == 0
    monkeypatch.chdir(elsewhere)
    exists = refused("export", tmp_path / "my.run.zarr", "--format", to)
    assert f"my.run.{to} exists" in exists
    (elsewhere / f"my.run.{to}").rename(tmp_path / "first")
    assert did("export", tmp_path / "my.run.zarr", "--format", to)[0] == 0
    assert os.listdir(elsewhere) == [f"my.run.{to}"]
    if to == "parquet":
        assert did("export", tmp_path / "my.run.zarr", "--format", to, "--counts")[0] == 0
        assert sorted(os.listdir(elsewhere)) == ["my.run.counts.parquet", "my.run.parquet"]


def test_a_zip_needs_no_arrow(did, run, tmp_path, monkeypatch):
    forget_arrow(monkeypatch)
    assert did("export", run, "--format", "zip", "--to", tmp_path / "run.zip")[0] == 0
    code, _, errors = did("export", run, "--format", "parquet", "--to", tmp_path / "out")
    assert (code, "pip install pyarrow pandas" in errors) == (2, True)
    assert sorted(os.listdir(tmp_path)) == ["run", "run.zip"]


def test_layers_without_rows_are_passed_over_and_told(did, refused, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        ts.CapturePoint("waiting", store)
        point = ts.CapturePoint("net/conv", store)
        point.declare(16)
        point.append(ROWS, 35)
    code, _, errors = did(
        "export", tmp_path / "run", "--format", "parquet", "--to", tmp_path / "out"
    )
    assert (code, errors) == (0, "tensorstate: waiting: no rows, no file\n")
    assert os.listdir(tmp_path / "out") == ["net%2Fconv.parquet"]
    only = ("--layer", "waiting", "--to", tmp_path / "other")
    assert "holds no states of 'waiting'" in refused(
        "export", tmp_path / "run", "--format", "parquet", *only
    )
    assert sorted(os.listdir(tmp_path)) == ["out", "run"]


# ---- stores that keep counts ---------------------------------------------------------------------


def test_commands_on_a_store_that_keeps_counts(did, refused, tmp_path):
    path = tmp_path / "counted.zarr"
    with ts.Store(path, "x") as store:
        point = ts.CapturePoint("a", store, keep="counts")
        point.declare(16, 1)
        point.append(ROWS, len(ROWS), np.arange(len(ROWS)) % 2)
    expected = ts.count_states(ROWS)
    code, out, errors = did("report", path, "--by-label")
    assert (code, errors) == (0, "")
    assert out.splitlines()[2].split()[0] == "a"
    assert "a, by label" in out
    assert did("verify", path)[0] == 0
    code, out, _ = did("info", path, "--json")
    layer = json.loads(out)["layers"][0]
    assert (layer["keep"], layer["rows"], layer["labels"]) == ("counts", len(ROWS), len(ROWS))
    out = tmp_path / "counts"
    assert did("export", path, "--format", "parquet", "--counts", "--to", out)[0] == 0
    assert pq.read_table(out / "a.parquet")["count"].to_pylist() == expected.counts.tolist()
    told = refused("export", path, "--format", "parquet", "--to", tmp_path / "rows")
    assert "'a' keeps counts only" in told
    code, _, _ = did("export", path, "--format", "zip", "--to", tmp_path / "counted.zip")
    assert code == 0
    with ZipStore(tmp_path / "counted.zip", mode="r") as archive:
        run = next(zarr.open_group(archive, mode="r")["a"].groups())[1]
        assert {bytes(row[:2]) for row in run["states"][:]} == set(map(bytes, expected.packed))
