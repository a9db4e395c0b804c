"""Bars and lines that say how far a command is; sizes as people read them."""

import io
import json
import sys

import pytest

from tensorstate_gpu._cli.main import main
from tensorstate_gpu._process import progress
from tensorstate_gpu.reporting import text

pytestmark = pytest.mark.usefixtures("small_chunks")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("command", [("verify",), ("report",), ("report", "--by-label")])
def test_a_bar_on_a_terminal(command, run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    name, *options = command
    assert main([name, str(run), *options, "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert "%" in sys.stderr.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_where_there_is_no_bar(terminal, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    expected = {
        ("verify",): "checking: 10 of 10 chunks",
        ("report",): "measuring: 47 of 47 states",
        ("report", "--by-label"): "measuring: 47 of 47 states",
        ("export", "--to", "zip", "--out", str(tmp_path / "out.zip")): "copying: 10 of 10 chunks",
        ("export", "--to", "parquet", "--out", str(tmp_path / "out")): "writing: 47 of 47 states",
    }
    counts = ("export", "--to", "parquet", "--counts", "--layer", "a", "--out")
    expected[*counts, str(tmp_path / "counts")] = "counting and writing: 70 of 70 states"
    for (name, *options), line in expected.items():
        assert main([name, str(run), *options]) == 0
        assert line in sys.stderr.getvalue().splitlines()


def test_a_line_without_a_total(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0)
    with progress.Progress("capturing", None, "batches") as bar:
        bar.add(3, note="96 inputs")
    assert capsys.readouterr().err == "capturing: 3 batches, 96 inputs\n"


def test_short_work_says_nothing(did, run):
    assert did("verify", run)[2] == ""


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (10**12, "1.0 TB"),
        (10**19, "10000.0 PB"),
        (None, "unknown"),
    ],
)
def test_sizes(count, expected):
    assert text.format_bytes(count) == expected
