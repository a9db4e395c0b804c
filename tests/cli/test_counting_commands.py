"""``tensorstate count`` and ``tensorstate merge``: parts, ranges, progress, mistakes."""

import io
import json
import sys

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tensorstate_gpu._process import progress
from tests.support.labelled_store import rewrite
from tests.support.points import new_point, rows_of


def test_a_whole_layer(did, run, tmp_path):
    expected = ts.Store(run)["a"].histogram()
    code, out, errors = did("count", run, "--layer", "a", "--to", tmp_path / "counts")
    assert (code, errors) == (0, "")
    assert out == f"{tmp_path / 'counts'}: 35 states, {len(expected)} distinct\n"
    assert ts.store.open_counts(tmp_path / "counts").load() == expected


def test_a_layer_that_keeps_counts(did, refused, tmp_path):
    path = tmp_path / "counted"
    with ts.Store(path, "x") as store:
        new_point(store, keep="counts").append(rows_of(35), 35, ["cat"] * 35)
    expected = ts.Store(path)["layer"].histogram()
    command = ("count", path, "--to", tmp_path / "counts")
    assert did(*command)[0] == 0
    assert ts.store.open_counts(tmp_path / "counts").load() == expected
    assert "counts exists; it is not overwritten" in refused(*command)
    part = (*command[:-1], tmp_path / "part", "--part", "0/2")
    assert "'layer' keeps counts only" in refused(*part)


def test_a_store_without_layers(refused, tmp_path):
    ts.Store(tmp_path / "empty", "x").close()
    for options in ((), ("--layer", "c")):
        told = refused("count", tmp_path / "empty", *options, "--to", tmp_path / "counts")
        assert "empty holds no rows" in told


def test_parts_and_ranges(did, run, tmp_path):
    expected = ts.Store(run)["a"].histogram()
    parts = [tmp_path / "parts" / str(number) for number in range(3)]
    for number, path in enumerate(parts):
        command = ("count", run, "--layer", "a", "--part", f"{number}/3", "--to", path)
        for _ in range(2):  # a task may run again
            code, out, _ = did(*command)
            assert (code, out.endswith(f" distinct (part {number} of 3)\n")) == (0, True)
    assert did("merge", *parts, "--to", tmp_path / "whole")[0] == 0
    for number in range(2):
        command = ("merge", *parts, "--range", f"{number}/2", "--to", tmp_path / "ranges")
        code, out, _ = did(*command)
        assert (code, out.endswith(f" distinct (range {number} of 2)\n")) == (0, True)
    for name in ("whole", "ranges"):
        assert ts.store.open_counts(tmp_path / name).load() == expected
    code, _, errors = did("merge", *parts[:2], "--to", tmp_path / "other")
    assert (code, errors.endswith("part 2 of 3 is missing\n")) == (2, True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("part", ["3", "3/3", "-1/3", "a/b", "1/2/3", "/"])
def test_parts_that_do_not_exist(part, run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["count", str(run), f"--part={part}", "--to", str(tmp_path / "counts")])
    assert f"must be I/N with I from 0 to N - 1, got {part!r}" in capsys.readouterr().err


def test_layers_that_do_not_exist(did, run, tmp_path):
    for options, error in (((), "--layer says which"), (("--layer", "c"), "no states of 'c'")):
        code, _, errors = did("count", run, *options, "--to", tmp_path / "counts")
        assert (code, error in errors, errors.count("\n")) == (2, True, 1)


def test_verify_stores_of_counts(did, refused, run, tmp_path):
    ts.Store(run)["a"].histogram(to=tmp_path / "counts")
    for number in (1, 0):  # tasks end in any order
        ts.store.merge_range([tmp_path / "counts"], number, 2, tmp_path / "ranges")
        if number:
            for command in ("verify", "merge", "info"):
                to = ("--to", tmp_path / "sum") if command == "merge" else ()
                code, out, errors = did(command, tmp_path / "ranges", *to)
                if command == "info":
                    assert (code, out.count("range 1 of 2")) == (0, 1)
                else:
                    assert (code, "range 0 of 2 is missing" in errors) == (2, True)
    code, out, errors = did("verify", run, tmp_path / "counts", tmp_path / "ranges")
    assert (code, errors, len(out.splitlines())) == (0, "", 4)
    assert f"{tmp_path / 'counts'}: 35 rows in 3 chunks (" in out
    damaged = tmp_path / "counts/states/c/0/0"
    damaged.write_bytes(bytes([damaged.read_bytes()[0] ^ 1]) + damaged.read_bytes()[1:])
    (tmp_path / "counts/fences/zarr.json").unlink()
    (tmp_path / "counts/other").touch()
    rewrite(tmp_path / "counts/counts/zarr.json", lambda array: array.update(shape=[99]))
    code, out, errors = did("verify", tmp_path / "counts", "--json")
    found = json.loads(out)
    assert (code, found["good"], found["chunks"], found["orphans"]) == (1, False, 2, ["other"])
    places = (
        "states/c/0/0 is damaged",
        "counts/zarr.json shows 99 rows",
        "fences/zarr.json is missing",
    )
    for place, problem in zip(places, found["problems"], strict=True):
        assert place in problem
    (tmp_path / "counts/zarr.json").write_text("{")
    assert "zarr.json is damaged" in refused("verify", tmp_path / "counts")


def test_lines_of_progress(run, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    path = str(tmp_path / "counts")
    assert main(["count", str(run), "--layer", "a", "--to", path]) == 0
    assert main(["merge", path, "--to", str(tmp_path / "merged")]) == 0
    lines = sys.stderr.getvalue().splitlines()
    assert "counting and writing: 50 of 100 percent" in lines
    assert "counting and writing: 100 of 100 percent" in lines
    assert "merging: 1 of 1 chunks" in lines
