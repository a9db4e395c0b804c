"""Exported files: whole or not there, and never in the place of others."""

import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

import tensorstate_gpu as ts
from tests.support.no_arrow import forget_arrow
from tests.support.points import new_point, rows_of


@pytest.fixture
def point():
    made = new_point()
    made.append(rows_of(30), 30)
    return made


def test_an_existing_path_is_refused_and_untouched(point, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("file", "link", "."):
        for write in (point.to_parquet, point.histogram().to_parquet):
            with pytest.raises(ValueError, match="exists; it is not overwritten"):
                write(tmp_path / taken)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "link"]


def test_a_file_that_came_meanwhile_is_not_overwritten(point, tmp_path):
    def meanwhile(rows):
        (tmp_path / "out").write_text("mine")

    with pytest.raises(ValueError, match="out exists"):
        point.to_parquet(tmp_path / "out", progress=meanwhile)
    assert (tmp_path / "out").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_nothing_is_left_behind(error, point, tmp_path, small_pieces):
    def stop(rows):
        assert not (tmp_path / "out").exists()
        (file,) = tmp_path.iterdir()
        assert file.name.endswith(".partial")
        raise error("on purpose")

    with pytest.raises(error, match="on purpose"):
        point.to_parquet(str(tmp_path / "out"), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_chunk_leaves_no_file(tmp_path, small_pieces):
    point = new_point(tmp_path / "run")
    point.append(rows_of(30), 30)
    point.flush()
    (tmp_path / "run/layer/c/5/0").unlink()
    with pytest.raises(ValueError, match=r"layer/c/5/0 is missing"):
        ts.Store(tmp_path / "run")["layer"].to_parquet(tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing/out", FileNotFoundError),
        ("file/out", NotADirectoryError),
        ("x" * 300, OSError),
        ("s3://bucket/out", ValueError),
        ("", ValueError),
        (5, TypeError),
        (b"out", TypeError),
    ],
)
def test_paths_that_cannot_be_written(path, error, point, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(error) as raised:
        point.to_parquet(path)
    assert ".partial" not in str(raised.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_new_file_has_the_usual_permissions(point, tmp_path):
    point.to_parquet(tmp_path / "out")
    (tmp_path / "usual").touch()
    assert os.stat(tmp_path / "out").st_mode == os.stat(tmp_path / "usual").st_mode


@pytest.mark.parametrize(
    ("missing", "what"),
    [("pyarrow", "to_arrow"), ("pyarrow", "to_parquet"), ("pandas", "to_pandas")],
)
def test_the_missing_package_is_named(missing, what, point, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "pyarrow":
        forget_arrow(monkeypatch)
    for exported in (point, point.histogram()):
        arguments = [tmp_path / "out"] if what == "to_parquet" else []
        with pytest.raises(ImportError, match=rf"{missing}: pip install pyarrow pandas"):
            getattr(exported, what)(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_rows_captured_meanwhile_are_not_exported(tmp_path, small_pieces):
    point = new_point()
    point.append(rows_of(30), 30, np.arange(30))

    def capture_on(rows):
        point.append(rows_of(5), 5)  # without labels

    point.to_parquet(tmp_path / "out", progress=capture_on)
    read = pq.read_table(tmp_path / "out")
    assert read["label"].to_pylist() == list(range(30))


FULL_DISK = """
import resource, signal, sys
import numpy as np
import tensorstate_gpu as ts
from tests.support.no_arrow import forget_arrow
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
point = ts.CapturePoint("layer", sys.argv[1] + "/run")
point.declare(128)
point.append(np.random.default_rng(0).integers(0, 256, (1 << 18, 16)).astype(np.uint8), 1 << 18)
point.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for write in (point.to_parquet, ts.Store(sys.argv[1] + "/run").to_zip):
    try:
        write(sys.argv[1] + "/out")
    except OSError as error:
        print(error.filename)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_full_disk_leaves_no_file(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{tmp_path}/out"] * 2
    assert os.listdir(tmp_path) == ["run"]


KILLED = """
import sys
import tensorstate_gpu._layers.arrow_rows as exporting
from tensorstate_gpu._cli.main import main
whole = exporting.ArrowRows.batches
def slowly(self):
    for batch in whole(self):
        print("a batch", file=sys.stderr, flush=True)
        __import__("time").sleep(3600)
        yield batch
exporting.ArrowRows.batches = slowly
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_during_an_export(tmp_path):
    point = new_point(tmp_path / "run")
    point.append(rows_of(30), 30)
    point.flush()
    arguments = [
        "export",
        str(tmp_path / "run"),
        "--format",
        "parquet",
        "--to",
        str(tmp_path / "out"),
    ]
    command = [sys.executable, "-c", KILLED, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as export:
        assert export.stderr.readline() == "a batch\n"
        assert len(os.listdir(tmp_path)) == 2
        export.send_signal(signal.SIGINT)
        _, errors = export.communicate(timeout=1200)
    assert (export.returncode, errors) == (130, "tensorstate: stopped\n")
    assert os.listdir(tmp_path) == ["run"]
