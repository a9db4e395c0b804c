"""The examples run, each in a folder of its own, print what they promise; the gallery has all."""

import re
import runpy
import sys

import matplotlib
import pytest

from docs import gallery
from tests.support import example_checks

# Those that take a second or two run in this process; the others take longer, some of them minutes.
# The ways to capture with Keras and to resume are also those of docs/keras.md and docs/store.md,
# whose code `make test` runs.
QUICK = ("output_distributions", "weight_initialisation", "class_overlap")
RUNS = [("keras_lenet5", backend) for backend in ("tensorflow", "jax")]
RUNS += [(name, "") for name in gallery.NAMES if name not in QUICK]


def check(name, printed, folder):
    assert "efficiency" in printed
    assert gallery.picture(name, folder).stat().st_size > 1000
    if of_its_own := getattr(example_checks, name, None):
        of_its_own(printed, folder)


@pytest.mark.long
@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_example(name, backend, tmp_path):
    done = gallery.run(name, tmp_path, backend)
    assert done.returncode == 0, done.stderr[-3000:]
    check(name, done.stdout, tmp_path)


@pytest.mark.parametrize("name", QUICK)
def test_quick_example(name, tmp_path, monkeypatch, capsys):
    matplotlib.use("Agg")
    from matplotlib import pyplot  # at home, where its list of fonts is

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # without data that was downloaded before
    monkeypatch.syspath_prepend(gallery.EXAMPLES)
    monkeypatch.delitem(sys.modules, "data", raising=False)
    runpy.run_path(str(gallery.EXAMPLES / f"{name}.py"), run_name="__main__")
    pyplot.close("all")
    check(name, capsys.readouterr().out, tmp_path)


@pytest.mark.parametrize(("given", "code"), [("--help", 0), ("dqm", 2)])
def test_only_what_names_an_example_is_run(given, code, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gallery.py", given])
    page = gallery.PAGE.read_text()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(gallery.__file__, run_name="__main__")
    assert ended.value.code == code
    said = capsys.readouterr()
    assert "weight_initialisation" in said.out + said.err
    assert gallery.PAGE.read_text() == page


def test_the_gallery_shows_every_example():
    examples = {path.stem for path in gallery.EXAMPLES.glob("*.py")} - {"data"}
    assert examples == set(gallery.NAMES)
    page = gallery.PAGE.read_text()
    assert page == gallery.page(gallery.outputs(page)), "run python docs/gallery.py"
    assert re.findall(r"^### \[(\w+)\]", page, re.MULTILINE) == gallery.NAMES
    pictures = {gallery.picture(name, gallery.PICTURES) for name in gallery.NAMES}
    assert pictures == {*gallery.PICTURES.iterdir()}
