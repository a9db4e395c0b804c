"""The file of a page: what is in its way, and what is missing."""

import os
import stat
import sys

import pytest

import tensorstate_gpu as ts
from tests.support.points import point_of_numbers


@pytest.fixture(scope="module")
def report():
    return ts.Run([point_of_numbers("layer", [0, 1, 2, 3] * 20, 2)]).report()


def test_a_file_in_the_way(report, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    taken = r"report\.html exists; it is not overwritten \(overwrite=True would replace it\)$"
    with pytest.raises(ValueError, match=taken):
        report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "mine"
    with pytest.raises(ValueError, match=r"it is not overwritten$"):  # and could not be
        report.to_html(tmp_path)
    with pytest.raises(TypeError, match="overwrite must be True or False, got NoneType"):
        report.to_html(tmp_path / "report.html", overwrite=None)


def test_a_page_that_is_written_again(report, tmp_path):
    page = tmp_path / "report.html"
    page.write_text("old")
    report.to_html(page, overwrite=True)
    assert "<!doctype html>" in page.read_text()
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        report.to_html(tmp_path / "folder", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "report.html"]


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are those of POSIX")
def test_what_is_replaced_stays_what_it_is(report, tmp_path):
    """A link leads to the file still, a private file is private, and a pipe is no file."""
    page, link, pipe = (tmp_path / name for name in ("page.html", "link.html", "pipe"))
    page.write_text("old")
    page.chmod(0o600)
    link.symlink_to(page)
    report.to_html(link, overwrite=True)
    assert link.is_symlink()
    assert "<!doctype html>" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="pipe is no file"):
        report.to_html(pipe, overwrite=True)
    assert pipe.is_fifo()


@pytest.fixture
def full_disk():
    """No file can have more than 100 kB: a page has ten times as much."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file(report, tmp_path, full_disk):
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(OSError, match=r"report\.html"):
        report.to_html(tmp_path / "report.html", overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_leaves_no_file(report, tmp_path, full_disk):
    with pytest.raises(OSError, match=r"report\.html"):
        report.to_html(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="nobody creates files in /sys, not even root")
def test_a_read_only_target(report):
    with pytest.raises(OSError, match=r"'/sys/report\.html'"):
        report.to_html("/sys/report.html")


def test_a_folder_that_is_not_there(report, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.html"):
        report.to_html(tmp_path / "none" / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["altair", "jinja2", "vl_convert"])
def test_a_library_that_is_missing(report, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"HTML pages need {library}: pip install jinja2 altair"):
        report.to_html(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("origin", ["LeNet-5", [("data", "digits")]])
def test_what_is_no_origin(origin, report, tmp_path):
    with pytest.raises(TypeError, match="origin must be a mapping of names to texts, got"):
        report.to_html(tmp_path / "report.html", origin=origin)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("log", [[1, 2], 3, {1: 3}, {"x": {}}, {2.5: {"train/efficiency/a": 1.0}}])
def test_what_is_no_log_of_a_training(log, report, tmp_path):
    with pytest.raises(TypeError, match=r"log of a training must be a mapping|step must be an int"):
        report.to_html(tmp_path / "report.html", training=log)
    assert list(tmp_path.iterdir()) == []
