"""What goes wrong in commands on stores: one line each, and nothing left behind."""

import errno
import io
import json
import os
import re
import subprocess
import sys
import tempfile

import pytest
import zarr

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tensorstate_gpu._process import progress
from tensorstate_gpu._process.scratch_file import ScratchFile
from tests.support.points import new_point, rows_of

pytestmark = pytest.mark.usefixtures("small_chunks")


COMMANDS = [
    ("report",),
    ("verify",),
    ("info",),
    ("export", "--format", "zip", "--to", "out"),
    ("export", "--format", "parquet", "--to", "out"),
]


@pytest.fixture(params=COMMANDS, ids=lambda command: "-".join(command))
def on(request, tmp_path, monkeypatch):
    """Each command, on a store; what it would write goes to a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    name, *options = request.param
    yield lambda store: (name, store, *options)
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "zarr", "memory://x", "", "file://"])
def test_what_is_no_store(kind, on, refused, tmp_path):
    path = kind if "://" in kind or not kind else tmp_path / kind
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "zarr":
        zarr.open_group(path, mode="w")
    assert "captured states" in (line := refused(*on(path))) or "path" in line


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda text: text.replace('"format":3', '"format":7'),
            "has format 7, this version reads 2",
        ),
        (lambda text: text[: len(text) // 2], "zarr.json is damaged"),
        (lambda text: "", "zarr.json is damaged"),
        (lambda text: text.replace('"neurons":16', '"neurons":17'), "zarr.json is damaged"),
        (lambda text: "[" * 100_000, "zarr.json"),
    ],
    ids=["newer", "truncated", "empty", "flipped", "nested"],
)
def test_a_record_that_cannot_be_read(damage, expected, on, refused, run):
    text = (run / "zarr.json").read_text()
    assert damage(text) != text
    (run / "zarr.json").write_text(damage(text))
    assert expected in refused(*on(run)) or expected == "zarr.json"


@pytest.mark.parametrize("damage", ["a/zarr.json", "a/c/2/0", "labels/a/c/0"])
def test_a_damaged_store(damage, did, run, tmp_path):
    (run / damage).write_bytes(b"{")
    assert did("verify", run)[0] == 1
    assert did("info", run)[0] == 0
    for command in (
        ("report", run, "--by-label"),
        ("export", run, "--format", "zip", "--to", tmp_path / "out"),
        ("export", run, "--format", "parquet", "--to", tmp_path / "out"),
    ):
        code, out, errors = did(*command)
        assert (code, out, errors.count("\n")) == (2, "", 1)
        assert f"{damage} is damaged" in errors
    assert os.listdir(tmp_path) == ["run"]


def test_an_empty_store(did, refused, tmp_path):
    ts.Store(tmp_path / "run", "x").close()
    assert did("verify", tmp_path / "run")[0] == 0
    code, out, _ = did("info", tmp_path / "run")
    assert (code, out.splitlines()[-1]) == (0, "no layers")
    assert json.loads(did("info", tmp_path / "run", "--json")[1])["layers"] == []
    assert "run holds no rows" in refused("report", tmp_path / "run")
    parquet = ("--format", "parquet", "--to", tmp_path / "out")
    assert "run holds no rows" in refused("export", tmp_path / "run", *parquet)
    assert did("export", tmp_path / "run", "--format", "zip", "--to", tmp_path / "run.zip")[0] == 0


def test_a_layer_without_rows(did, refused, tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        ts.CapturePoint("waiting", store)
        store.commit()
    for command in (
        ("report",),
        ("export", "--format", "parquet", "--counts", "--to", tmp_path / "out"),
    ):
        line = refused(command[0], tmp_path / "run", *command[1:])
        assert "waiting" in line or "holds no rows" in line
    assert did("verify", tmp_path / "run")[0] == 0


@pytest.mark.parametrize("to", ["zip", "parquet"])
def test_an_unknown_layer(to, refused, run, tmp_path):
    options = ("--format", to, "--layer", "a", "--layer", "no such", "--to", tmp_path / "out")
    line = refused("export", run, *options)
    assert line == f"tensorstate: {run} has no states of 'no such'; there are ['a', 'b']"
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("to", ["zip", "parquet"])
@pytest.mark.parametrize(
    "out", ["taken", "empty", "run", "missing/out", "taken/out", "s3://b/out", ""]
)
def test_an_out_that_cannot_be_written(to, out, refused, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "empty").mkdir()
    line = refused("export", run, "--format", to, "--to", out)
    assert ".partial" not in line
    assert out in line
    assert sorted(os.listdir(tmp_path)) == ["empty", "run", "taken"]
    assert os.listdir(tmp_path / "empty") == []


def test_counts_do_not_go_to_a_zip(refused, run, tmp_path):
    line = refused("export", run, "--format", "zip", "--counts", "--to", tmp_path / "out")
    assert "--counts is for --format parquet" in line


@pytest.mark.parametrize("url", ["nonsense://bucket/run", "s3://", "gs://"])
def test_urls_that_no_store_can_have(url, on, refused):
    refused(*on(url))


def test_a_url_without_obstore(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "tensorstate_gpu.store.bucket", raising=False)
    assert "pip install obstore" in refused("info", "s3://bucket/run")


@pytest.mark.parametrize("error", [RuntimeError("two\nlines"), RecursionError("deep"), KeyError(1)])
def test_errors_that_nobody_foresaw(error, on, refused, run, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("tensorstate_gpu.store.store.Record.from_bytes", fail)
    assert type(error).__name__ in refused(*on(run))


def test_what_an_error_advises_is_told(refused, run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    monkeypatch.setattr(ScratchFile, "_write", full)
    ts.set_memory_limit(200)
    try:
        line = refused("report", run)
    finally:
        ts.set_memory_limit(None)
    assert f"No space left on device: '{tempfile.gettempdir()}' (counting continues in" in line


TO_FILES = ("report --html", "export --format zip --to", "count --layer a --to")


@pytest.mark.parametrize("command", TO_FILES)
@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("file", r"it could not be written: \S*file is no folder"),
        ("/proc", "it could not be written"),  # where not even root creates a file
    ],
)
def test_where_nothing_can_be_written(command, folder, why, refused, run, tmp_path):
    (tmp_path / "file").touch()
    name, *options = command.split()
    line = refused(name, run, *options, tmp_path / folder / "out")
    assert re.search(rf"'{tmp_path / folder / 'out'}' \({why}\)$", line)


@pytest.mark.parametrize("command", TO_FILES[:2])
def test_a_folder_that_is_not_there(command, refused, run, tmp_path):
    name, *options = command.split()
    line = refused(name, run, *options, tmp_path / "none/deeper/out")
    assert line.endswith(f"(it could not be written: there is no folder {tmp_path}/none/deeper)")


def test_a_store_where_nothing_can_be_written():
    with pytest.raises(OSError, match=r"/proc/run\.zarr") as raised:
        ts.Store("/proc/run.zarr", "x")
    assert raised.value.__notes__ == ["it could not be written"]


def test_ctrl_c(on, did, run, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tensorstate_gpu._process.progress.Progress.to", stop)
    monkeypatch.setattr("tensorstate_gpu.store.store.Store.info", stop)
    assert did(*on(run)) == (130, "", "tensorstate: stopped\n")


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_closed_streams(closed, run, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0)
    monkeypatch.setattr(sys, closed, None)
    assert main(["verify", str(run)]) == 0
    assert main(["verify", "nowhere"]) == 2
    lines = capsys.readouterr()
    assert ("nowhere" in lines.err, "nowhere" in lines.out) == (closed == "stdout", False)


def test_names_that_the_encoding_of_the_output_lacks(tmp_path, monkeypatch):
    with ts.Store(tmp_path / "run", "x") as store:
        new_point(store, name="\xfcber").append(rows_of(5), 5)
    for command in ("report", "info"):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdout", out)
        assert main([command, str(tmp_path / "run")]) == 0
        assert rb"\xfcber  " in out.buffer.getvalue()


def test_nobody_reads_the_output(run):
    command = [sys.executable, "-m", "tensorstate_gpu", "info", str(run)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=1200)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")
