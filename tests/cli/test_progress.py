"""Bars and lines that say how far a command is; sizes as people read them."""

import io
import json
import re
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


@pytest.mark.parametrize("command", [("info",), ("report", "--by-label")])
def test_tables_are_folded_to_the_width_of_a_terminal(command, run, monkeypatch, without_progress):
    def rows(width):
        """The cells of each row by its first one; headings are a row, too."""
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys, "stdout", Terminal())
        name, *options = command
        assert main([name, str(run), *options]) == 0
        found = {}
        for line in sys.stdout.getvalue().splitlines():
            first, *cells = re.split(" {2,}", line)
            if first in ("layer", "label", "a", "b"):
                assert len(line) <= width or "out of step" in line  # which is no row of a table
                found.setdefault(first, []).extend(cells)
        return found

    assert rows(56) == rows(400)


def test_a_long_name_has_a_line_of_its_own_and_one_column_always_stands_beside_names():
    rows = [("layer", "neurons", "states"), (30 * "x", "8", "1,000")]
    first, second = text.text_table(rows, 9).split("\n\n")
    assert first.splitlines() == ["layer  neurons", "-----  -------", 30 * "x", 13 * " " + "8"]
    assert second.splitlines() == ["layer  states", "-----  ------", 30 * "x", 8 * " " + "1,000"]
    whole = text.text_table(rows, 22)
    assert whole.splitlines()[2:] == [30 * "x", 13 * " " + "8   1,000"]


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_where_there_is_no_bar(terminal, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    expected = {
        ("verify",): "checking: 10 of 10 chunks",
        ("report",): "measuring: 47 of 47 states",
        ("report", "--by-label"): "measuring: 47 of 47 states",
        (
            "export",
            "--format",
            "zip",
            "--to",
            str(tmp_path / "out.zip"),
        ): "copying: 10 of 10 chunks",
        (
            "export",
            "--format",
            "parquet",
            "--to",
            str(tmp_path / "out"),
        ): "writing: 47 of 47 states",
    }
    counts = ("export", "--format", "parquet", "--counts", "--layer", "a", "--to")
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
