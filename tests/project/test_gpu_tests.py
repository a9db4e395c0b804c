"""The stage of `make gpu` that runs tests: what it knows of each file, and which come first."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import bounded, each_test, results, tests
from tests.cuda.cases import FILES

ROOT = Path(__file__).parents[2]
ALONE = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
SOME_TESTS = """
import pytest

def test_one():
    pass

def test_two():
    assert 1 == 2

def test_three():
    pytest.skip("no numba_cuda")

def test_that_ends_the_process():
    import os
    os._exit(3)

def test_never_reached():
    pass
"""


def summaries(folder, files, *arguments):
    """Run files of tests as on a device; the exit code, and what is known of each file."""
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]")
    lines = folder / "lines.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += [*arguments, "-p", "benchmarks.gpu.each_test", "--rootdir", str(folder), *files]
    options = {"env": {each_test.LINES: str(lines), **ALONE}, "cwd": folder}
    done = bounded.run(command, 600, **options, stdout=subprocess.DEVNULL)
    return done.returncode, {name: tests.summary(lines, name) for name in files}


def test_what_the_tests_on_a_device_said(tmp_path):
    """A line each, written at once: a test that ends the process takes none of them along."""
    code, found = summaries(tmp_path, {"cases.py": SOME_TESTS})
    assert code == 3
    said = found["cases.py"]
    assert (said["collected"], said["passed"]) == (5, 1)
    assert [said for name, said in said["failed"].items() if "test_two" in name] == [
        "assert 1 == 2"
    ]
    assert [said for name, said in said["skipped"].items() if "test_three" in name] == [
        "Skipped: no numba_cuda"
    ]
    assert tests._end(code, said) == 3


TWO_TESTS = "def test_one(): pass\n\ndef test_two(): pass\n"
NOT_THERE = "no_such_framework"
MISSING = f"import {NOT_THERE}\n{TWO_TESTS}"
OPTIONAL = f"import pytest\n\npytest.importorskip('{NOT_THERE}')\n{TWO_TESTS}"


@pytest.mark.parametrize("processes", [(), ("-p", "xdist.plugin", "-n2")])
def test_each_file_is_known_also_where_several_processes_run_them(tmp_path, processes):
    files = {"cases.py": TWO_TESTS, "missing.py": MISSING, "optional.py": OPTIONAL}
    _, found = summaries(tmp_path, files, "--continue-on-collection-errors", *processes)
    assert {name: said["passed"] for name, said in found.items()} == dict.fromkeys(files, 0) | {
        "cases.py": 2
    }
    (why,) = found["missing.py"]["failed"].values()
    assert f"No module named '{NOT_THERE}'" in why
    (why,) = found["optional.py"]["skipped"].values()
    assert f"could not import '{NOT_THERE}'" in why
    ends = {name: tests._end("its time was up", said) for name, said in found.items()}
    assert ends == {"cases.py": 0, "missing.py": 1, "optional.py": 0}


def test_a_file_of_which_no_process_has_told_is_not_complete(tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"collected": {"only_gpu.py": 3}}\n')
    said = tests.summary(lines, "streams.py")
    assert said["collected"] is None
    assert tests._end("its time was up", said) == "its time was up"


def test_files_that_run_alone_leave_time_for_the_others(tmp_path, monkeypatch):
    given = []
    monkeypatch.setenv("TENSORSTATE_GPU_RESULTS", str(tmp_path))
    monkeypatch.setattr(tests, "_run", lambda *arguments: given.append(arguments))
    for _ in bounded.in_turn({"tests": 1}, 160):
        tests.stage({})
    assert [len(files) for files, *_ in given] == [1, 1, len(tests.SIDE_BY_SIDE)]
    assert [round(seconds, -1) for *_, seconds in given] == [80, 80, 160]


def test_a_file_is_complete_if_all_its_tests_have_ended():
    said = {"collected": 3, "passed": 2, "failed": {}, "skipped": {"a": "no GPU"}}
    assert tests._end("its time was up", said) == 0
    assert tests._end("its time was up", said | {"passed": 1}) == "its time was up"
    assert tests._end(2, said | {"collected": None}) == 2


def test_files_that_have_passed_on_a_device_come_last(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    files = ("streams.py", "tables.py", "packing.py", "counting.py")
    assert tests.unknown_first(files) == files
    hashes = {file: results.hash_of(ROOT / tests.CASES / file) for file in files}
    results.write(
        "tests",
        {},
        {
            "streams.py": {"exit code": 0, "hash": hashes["streams.py"]},
            "tables.py": {"exit code": 0, "hash": "of an older file"},
            "packing.py": {"exit code": "its time was up", "hash": hashes["packing.py"]},
        },
    )
    assert tests.unknown_first(files) == (*files[1:], files[0])


def test_every_file_of_cases_that_a_gpu_can_run_is_run_on_it():
    on_no_gpu = {"simulated.py", "recordings.py", "host_work.py", "plans.py", "last_blocks.py"}
    on_no_gpu.add("compiled.py")
    assert {*tests.ALONE, *tests.SIDE_BY_SIDE} == {"only_gpu.py", "huge.py", *FILES} - on_no_gpu
