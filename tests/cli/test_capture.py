"""The command `tensorstate capture`: a model and inputs of a user's own module."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tests.support.pages import programs_of
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("users_folder")


def expected(scale=1):
    """The states of the first layer."""
    import mine

    return ts.compress_states(mine.model[0](mine.tensor * scale))


def stored(path="run.zarr", layer="0"):
    return ts.Store(path)[layer]


@pytest.mark.parametrize("inputs", ["images", "tensor", "loader", "generator"])
def test_inputs(inputs, did):
    code, out, errors = did(
        "capture", "mine:model", "--inputs", f"mine:{inputs}", "--store", "run.zarr"
    )
    assert (code, errors) == (0, "")
    first, *table = out.splitlines()
    assert first == "capturing 2 layers of Sequential; its weights stay as they are"
    page = ["", "The page with charts: run.html"]
    assert table == ["", *str(ts.Store("run.zarr").report()).splitlines(), *page]
    np.testing.assert_array_equal(stored()[:], expected())


ENDS = {
    "import": "import sys; from mine import *; sys.exit(0)",
    "arguments": "import argparse; argparse.ArgumentParser(prog='mine').parse_args([])\nexit('no')",
    "model": "import sys; from mine import *\ndef model(): sys.exit(0)",
    "batches": "import sys; from mine import *\ndef tensor(): yield images[:9]; sys.exit(0)",
}


@pytest.mark.parametrize("where", ENDS)
def test_a_module_that_ends_the_program_is_no_success(where, did, users_folder):
    (users_folder / "ending.py").write_text(ENDS[where])
    names = ("ending:model", "--inputs", "ending:tensor")
    code, out, errors = did("capture", *names, "--store", "run.zarr")
    assert (code, "states" in out) == (2, False)
    told = errors.splitlines()[-1]
    assert told.startswith("tensorstate: ")
    assert "ends the program by sys.exit(" in told
    if where == "batches":
        assert ts.Store("run.zarr")[0].state_count == 9


@pytest.mark.parametrize("parse", ["parse_args()", "parse_known_args()[0]"])
def test_a_script_does_not_read_the_arguments_of_the_command(parse, did, users_folder, monkeypatch):
    (users_folder / "ending.py").write_text(
        "import argparse\nfrom mine import *\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--limit', type=int, default=7)\n"
        f"options = parser.parse_args()\ndef few(): return tensor[:parser.{parse}.limit]\n"
    )
    names = ("capture", "ending:model", "--inputs", "ending:few", "--limit", "3")
    monkeypatch.setattr(sys, "argv", given := ["tensorstate", *names])
    code, _, errors = did(*names, "--store", "run.zarr")
    assert (code, errors) == (0, "")
    assert stored().instance_count == 3
    assert sys.argv is given


@pytest.mark.parametrize("when", ["import", "batches"])
def test_paths_are_for_the_folder_of_the_command(when, did, users_folder, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    move = f"os.chdir({str(there)!r})"
    text = {"import": f"{move}\n", "batches": f"def tensor():\n    {move}\n    yield images\n"}
    (users_folder / "moving.py").write_text(f"import os\nfrom mine import *\n{text[when]}")
    names = ("moving:model", "--inputs", "moving:tensor")
    code, _, errors = did("capture", *names, "--store", "run.zarr")
    assert (code, errors) == (0, "")
    assert list(there.iterdir()) == []
    assert stored(tmp_path / "run.zarr").state_count == 50
    assert (tmp_path / "run.html").is_file()


def test_a_reader_of_the_first_line_alone_does_not_cost_the_page(users_folder):
    reader, writer = os.pipe()
    leaves = (
        "import mine, os\n\n"
        "def images():\n"
        "    yield mine.tensor[:9]\n"
        f"    os.close({reader})\n"
        "    yield mine.tensor[9:]\n"
    )
    (users_folder / "leaving.py").write_text(leaves)
    command = ("capture", "mine:model", "--inputs", "leaving:images", "--html", "page.html")
    with os.fdopen(writer, "w", buffering=1) as out, contextlib.redirect_stdout(out):
        assert main(command) == 2
    assert Path("page.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


@pytest.mark.parametrize("inputs", ["by_name", "parts"])
def test_inputs_by_name(inputs, did):
    command = ("capture", "mine:Net", "--inputs", f"mine:{inputs}", "--batch-size", 20)
    assert did(*command, "--store", "run.zarr")[0] == 0
    np.testing.assert_array_equal(stored(layer="first")[:], expected(scale=2))


@pytest.mark.parametrize("model", ["made", "Settings.inner", "Net"])
def test_models(model, did):
    code, out, _ = did("capture", f"mine:{model}", "--inputs", "mine:images")
    assert code == 0
    assert len(re.findall("^(0|2|first|last)_post_states", out, re.MULTILINE)) == 2


def test_a_module_whose_name_is_no_identifier(did, users_folder):
    (users_folder / "2024_my-net.py").write_text("from mine import model, images")
    code, out, _ = did("capture", "2024_my-net:model", "--inputs", "2024_my-net:images")
    assert (code, "0_post_states" in out) == (0, True)


def test_choosing_layers(did):
    for options in (("--attach", "Linear", "--exclude", "2"), ("--attach", "0", "--attach", "0*")):
        _, out, _ = did("capture", "mine:model", "--inputs", "mine:images", *options)
        assert out.startswith("capturing 1 layer of")
        assert "0_post_states" in out


@pytest.mark.parametrize("store", [(), ("--store", "run.zarr")])
@pytest.mark.parametrize(
    ("inputs", "labels"),
    [("images", "mine:labels"), ("loader", "mine:names"), ("pairs", "from-batches")],
)
def test_labels(inputs, labels, store, did):
    command = ("capture", "mine:model", "--inputs", f"mine:{inputs}", "--batch-size", 16)
    code, out, errors = did(*command, "--labels", labels, *store)
    assert (code, errors) == (0, "")
    tables = re.findall(r"^(\w+), by label\n.*\n.*\n(.*)\n(.*)\n(.*)\n\n", out, re.MULTILINE)
    assert [name for name, *_ in tables] == ["0_post_states", "2_post_states"]
    for _, *rows in tables:
        assert [row.split()[1] for row in rows] == ["17", "17", "16"]


def test_counts_alone_have_the_same_table(did):
    command = ("capture", "mine:model", "--inputs", "mine:images")
    in_memory = did(*command)[1]
    assert did(*command, "--counts") == (0, in_memory, "")
    for name, options in {"run": (), "counts": ("--counts",)}.items():
        page = f"\nThe page with charts: {name}.html\n"
        assert did(*command, *options, "--store", f"{name}.zarr") == (0, in_memory + page, "")
    assert ts.Store("counts.zarr").info()["layers"][0]["instances"] == 50


def test_progress_goes_on_after_the_last_batch(did, monkeypatch):
    """Counts are written then, and read for the report."""
    monkeypatch.setattr("tensorstate_gpu._process.progress.SECONDS", 0)
    command = ("capture", "mine:model", "--inputs", "mine:images", "--batch-size", 25)
    said = did(*command, "--store", "run.zarr", "--counts")[2].splitlines()
    assert said[:2] == [f"capturing: {n} of 2 batches, {25 * n} inputs" for n in (1, 2)]
    writing = [line for line in said if line.startswith("writing: ")]
    assert writing[-1] == "writing: 100 of 100 states"
    assert said[2] == writing[0]
    assert said[-1] == "measuring: 100 of 100 percent"
    said = did(*command, "--store", "rows.zarr")[2]
    assert "writing" not in said


@pytest.mark.parametrize("first", [16, 21])  # between two batches, and within one
def test_going_on(first, did):
    command = ("capture", "mine:model", "--inputs", "mine:images", "--labels", "mine:labels")
    command += ("--batch-size", 16, "--store", "run.zarr")
    assert did(*command, "--limit", first)[0] == 0
    assert stored().instance_count == first
    code, out, _ = did(*command)
    assert code == 0
    after = f", after the {first} inputs in run.zarr; its weights stay as they are\n"
    assert out.startswith(f"capturing 2 layers of Sequential{after}")
    np.testing.assert_array_equal(stored()[:], expected())
    assert {label: each.total for label, each in stored().counts_by().items()} == {
        0: 17,
        1: 17,
        2: 16,
    }
    for limit in ((), ("--limit", 30)):
        code, out, errors = did(*command, *limit)
        assert (code, out) == (2, "")
        assert "run.zarr has all of these inputs; it is not overwritten" in errors
    assert not ts.Store("run.zarr").verify().problems


@pytest.mark.parametrize("store", [(), ("--counts",)])
def test_labels_of_some_inputs_only_are_refused(store, did):
    command = ("capture", "mine:model", "--inputs", "mine:images", *store, "--store")
    labels = ("--labels", "mine:labels")
    for path, first, then, said in (
        ("with.zarr", labels, (), "has labels of its inputs: --labels is needed to go on"),
        ("without.zarr", (), labels, "has inputs without labels: leave --labels out to go on"),
    ):
        assert did(*command, path, *first, "--limit", 20)[0] == 0
        code, out, errors = did(*command, path, *then)
        assert (code, out, said in errors) == (2, "", True)
        assert ts.Store(path)[0].instance_count == 20
        assert did(*command, path, *first)[0] == 0


def test_the_commands_of_the_docs(did, users_folder):
    """They write a page and a store, from the module that is shown there."""
    shown = (ROOT / "docs/capture_command.md").read_text()
    (program,) = programs_of("docs/capture_command.md")
    (users_folder / "mine.py").write_text(program)
    page, store = (line.split()[1:] for line in shown.splitlines() if re.match("tensor.* c", line))
    code, out, errors = did(*page, "--limit", 100)
    assert (code, errors) == (0, "")
    assert out.endswith("\n\nThe page with charts: report.html\n")
    text = Path("report.html").read_text(encoding="utf-8")
    for name, value in {
        "model": "mine:model",
        "inputs": "mine:images",
        "labels": "mine:labels",
        "limit": "100",
        "number of inputs": "100",
        "attach_to": "layers with weights",
        "keep": "counts",
    }.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    assert did(*store, "--limit", 100)[0] == 0
    assert (*ts.Store("run.zarr"),) == ("0_post_states",)
    assert ts.Store("run.zarr")["0"].counts_by().keys() == {*range(10)}


def test_a_page_beside_the_store(did, users_folder, monkeypatch):
    """It is written unless its name is taken, or a library is missing; the store is, always."""
    command = ("capture", "mine:model", "--inputs", "mine:images", "--store")
    assert did(*command, "new/states/")[1].endswith("\nThe page with charts: new/states.html\n")
    assert "<dt>store</dt>" in Path("new/states.html").read_text(encoding="utf-8")
    Path("run.html").write_text("mine")
    code, out, _ = did(*command, "run.zarr")
    taken = "run.html exists; it is not overwritten; --html FILE gives it another name"
    assert (code, taken in out) == (0, True)
    assert Path("run.html").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "altair", None)
    code, out, _ = did(*command, "other.zarr")
    assert (code, "No page with charts: HTML pages need altair: pip install" in out) == (0, True)
    assert {*users_folder.glob("o*")} == {users_folder / "other.zarr"}
    assert ts.Store("other.zarr").closed


def test_ctrl_c_leaves_a_whole_store_that_goes_on(did, users_folder):
    command = ["capture", "mine:model", "--inputs", "mine:slow", "--store", "run.zarr"]
    with subprocess.Popen(
        [sys.executable, "-m", "tensorstate_gpu", *command], stderr=subprocess.PIPE, text=True
    ) as running:
        wait_until((users_folder / "waiting").exists)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=300)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == (
        "tensorstate: stopped; run.zarr has what was captured, and the same command goes on from "
        "there"
    )
    assert "Traceback" not in errors
    assert stored().instance_count == 30
    assert not ts.Store("run.zarr").verify().problems
    code, out, _ = did(*command)
    assert code == 0
    assert "after the 30 inputs in run.zarr" in out
    np.testing.assert_array_equal(stored()[:], expected())


@pytest.mark.parametrize(
    ("model", "inputs", "store", "said"),
    [
        ("model", "stopped", (), "without --store, nothing is kept"),
        ("Stopped", "images", ("--store", "run.zarr"), "nothing was captured"),
    ],
)
def test_ctrl_c_that_leaves_nothing(model, inputs, store, said, did):
    code, _, errors = did("capture", f"mine:{model}", "--inputs", f"mine:{inputs}", *store)
    assert (code, errors) == (130, f"tensorstate: stopped; {said}\n")
    assert not os.path.exists("run.zarr")
