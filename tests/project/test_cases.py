"""Cases that run in processes of their own: whatever becomes of one there is its result here."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

import pytest

from tests.__main__ import closing_line
from tests.support.cases import named
from tests.support.side_by_side import group_of

ROOT = Path(__file__).parents[2]
CONFTEST = """
from tests.support import cases, side_by_side

def pytest_configure(config):
    config.pluginmanager.register(cases)
    config.pluginmanager.register(side_by_side)
"""
INIT = """
FILES = ("first.py", "second.py")
PROCESSES = {"one": {"WHICH": "1"}, "two": lambda: {"WHICH": "2"}}
"""
FIRST = """
import os, pytest

WHICH = os.environ["WHICH"]

@pytest.fixture
def broken():
    raise OSError("no such thing")

@pytest.fixture
def torn():
    yield
    assert not "torn down"

def test_passes(): assert os.getpid() != os.getppid()
def test_fails(): print("printed before"); assert WHICH == "1"
def test_error(broken): pass
def test_torn(torn): pass
@pytest.mark.skipif(WHICH == "2", reason="not here")
def test_skips(): pass
@pytest.mark.xfail
def test_expected(): raise ValueError
@pytest.mark.xfail(strict=True)
def test_unexpected(): pass
@pytest.mark.slow
@pytest.mark.parametrize("what", ["a", "b"])
def test_each(what): assert (what, WHICH) != ("b", "2")
"""
SECOND = "import os\ndef test_same_process(): print(os.getpid())\n"


@pytest.fixture
def project(tmp_path):
    """Writes a small project with cases, and runs pytest there: outcomes by id, and its output."""
    folder = tmp_path / "cases"
    folder.mkdir()
    marks = "".join(f"\n    {mark}" for mark in ("slow", "serial", "long", "each_process"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers ={marks}\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, text in {"__init__": INIT, "first": FIRST, "second": SECOND}.items():
        (folder / f"{name}.py").write_text(text)

    def run(*arguments, **files):
        for name, text in files.items():
            (folder / f"{name}.py").write_text(text)
        return outcomes_of(tmp_path, *arguments)

    return run


def outcomes_of(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "--junitxml=report.xml", *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        problems = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}"
        found.setdefault(name, []).extend(problems)
    return found, done.stdout + done.stderr


def test_each_case_is_reported_as_it_was_in_its_process(project):
    found, output = project()
    passed, skipped, failed, error = [], ["skipped"], ["failure"], ["error"]
    expected = {"passes": passed, "error": error, "torn": error, "expected": skipped}
    expected |= {"unexpected": failed, "each[a]": passed}
    expected = {
        **{
            f"first::test_{named(name, process)}": how
            for name, how in expected.items()
            for process in ("one", "two")
        },
        "first::test_fails[one]": passed,
        "first::test_fails[two]": failed,
        "first::test_skips[one]": passed,
        "first::test_skips[two]": skipped,
        "first::test_each[one-b]": passed,
        "first::test_each[two-b]": failed,
        "second::test_same_process[one]": passed,
        "second::test_same_process[two]": passed,
    }
    assert found == expected
    for said in ("assert '2' == '1'", "printed before", "no such thing", "torn down"):
        assert said in output
    assert "4 failed, 11 passed, 1 skipped, 2 xfailed" in output
    assert "4 errors in" in output


def test_cases_can_be_selected(project):
    found, _ = project("-m", "slow", "-k", "two")
    assert set(found) == {"first::test_each[two-a]", "first::test_each[two-b]"}
    found, _ = project("cases/first.py::test_each[two-a]", "cases/second.py::test_same_process")
    assert len(found) == 3
    found, output = project("-x")
    assert "stopping after 1 failures" in output
    assert list(found) == ["first::test_passes[one]", "first::test_passes[two]", *list(found)[2:]]
    assert len(found) < 6
    # A source that changes is asked again.
    assert (
        "third::test_new[one]"
        in project(
            "-k", "new", __init__=INIT.replace('"second', '"third'), third="def test_new(): pass\n"
        )[0]
    )


@pytest.mark.usefixtures("project")
def test_other_tests_before_and_after(tmp_path):
    """The first shares a folder with the cases, the last does not."""
    for folder in ("outer/before", "z_after"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"test_{folder[-5:]}.py").write_text("def test_it(): pass\n")
    (tmp_path / "cases").rename(tmp_path / "outer/cases")
    found, output = outcomes_of(tmp_path, "outer/before", "outer/cases/second.py", "z_after")
    assert list(found.values()) == [[]] * 4, output


SPREAD_INIT = """
FILES = ("second.py",)
PROCESSES = {"one": {}, "two": {}}
SPREAD = ("one", "two")
"""
SPREAD = """
import pytest

@pytest.mark.parametrize("number", range(8))
def test_spread(number): pass
@pytest.mark.each_process
def test_everywhere(): pass
@pytest.mark.skipif("False")
def test_perhaps_skipped(): pass
"""


def test_cases_that_are_spread_are_long_in_all_processes_but_one(project):
    found, _ = project("-m", "long", __init__=SPREAD_INIT, second=SPREAD)
    numbers = [int(name[-2]) for name in found]
    assert sorted(numbers) == [*range(8)]
    assert len({name.partition("[")[2][:3] for name in found}) == 2
    assert all(problems == [] for problems in found.values())


def test_processes_side_by_side(project):
    found, output = project("-p", "xdist.plugin", "-n2", "-v")
    assert len(found) == 20
    assert "4 failed, 11 passed, 1 skipped, 2 xfailed" in output
    assert "4 errors in" in output
    workers = {
        process: set(re.findall(rf"\[(gw\d)\].*{process}[-\]]", output))
        for process in ("one", "two")
    }
    assert sorted(map(len, workers.values())) == [1, 1], workers


def test_what_one_process_runs_wholly():
    of = partial(group_of, root=ROOT)
    assert (
        of("tests/bridges/keras3/cases/modes.py::test_a[jax]") == "tests/bridges/keras3/cases jax"
    )
    assert of("tests/bridges/keras3/cases/modes.py::test_a[jax-b]") == of(
        "tests/bridges/keras3/cases/copies.py::test_b[jax-2]"
    )
    assert of("tests/cuda/cases/packing.py::test_a[jax-b]") == "tests/cuda/cases "
    assert of("tests/store/test_store.py::test_a[jax]") == "tests/store/test_store.py::test_a[jax]"
    assert of("tests/object_stores/test_store.py::test_a") == "tests/object_stores/"


CRASHES = """
import os

def test_before(): pass
def test_crash():
    os.write(2, b"last words")
    os._exit(3)
def test_after(): pass
"""


def test_a_process_that_ends_fails_all_cases_that_it_did_not_report(project):
    found, output = project("-k", "one", second=CRASHES)
    assert found["second::test_before[one]"] == []
    assert found["second::test_crash[one]"] == found["second::test_after[one]"] == ["failure"]
    assert "ended before this case did; exit code 3" in output
    assert "last words" in output


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("import atexit; atexit.register(os._exit, 9)", "exit code 9"),
        ("test_other = lambda: None", "It has other cases than were listed"),
    ],
)
def test_what_is_wrong_with_the_whole_process_is_told(second, said, project):
    notes = "pathlib.Path(os.environ['TENSORSTATE_CASES'], 'selected')"
    code = f"import os, pathlib\ndef test_fine(): pass\nif {notes}.exists():\n    {second}\n"
    found, output = project("-k", "one and fine", second=code)
    assert found == {"second::test_fine[one]": ["error"]}
    assert said in output


def test_files_that_cannot_be_collected_are_told(project):
    found, output = project(second="import nothing_of_this_name\n")
    assert "nothing_of_this_name" in output
    assert [problem for problems in found.values() for problem in problems] == ["error"] * 2


def test_the_two_runs_of_the_suite_are_counted_together(tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_one(): pass\n@pytest.mark.serial\ndef test_two(): assert False\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    serial\n")
    monkeypatch.setenv("TENSORSTATE_TEST_NOTES", str(tmp_path / "notes"))
    for more in ([], ["-p", "xdist.plugin", "-n1"]):
        outcomes_of(tmp_path, "-p", "tests.support.two_runs", *more, "-m", "not serial")
        notes = json.loads((tmp_path / "notes").read_text())
        assert notes["serial"] == ["test_it.py"]
        assert {k: v for k, v in notes["counts"].items() if v} == {"passed": 1}
    outcomes_of(tmp_path, "-p", "tests.support.two_runs", "-m", "serial")
    assert json.loads((tmp_path / "notes").read_text())["counts"]["failed"] == 1


def test_the_closing_line_is_like_that_of_pytest():
    line = closing_line({"failed": 1, "passed": 3301, "skipped": 0}, 481.5)
    assert line == f"{18 * '='} 1 failed, 3301 passed in 481.50s (0:08:01) {18 * '='}"
