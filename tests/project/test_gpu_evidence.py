"""`make gpu` without a GPU: it refuses; its benchmarks run on a CPU; its tables say what is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import results, sanitizers, speed, tests, training
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.clock import Place

ROOT = Path(__file__).parents[2]
TINY = Place("cpu", tiny=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_it_fails():
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200)
    assert done.returncode == 1
    assert "no CUDA GPU can be used here, so nothing was run" in done.stderr


def test_unknown_stages_are_refused(capsys):
    assert main(["tests", "speeed"]) == 2
    assert "no stages ['speeed']; there are ['tests', 'speed'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, _ in speed.cases(TINY)])
def test_each_benchmark_runs(name):
    case = dict(speed.cases(TINY))[name]()
    assert len(case["seconds"]) == 3
    assert case.get("moved", case.get("bytes", 0)) > 0


def test_a_failing_benchmark_is_reported_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(speed, "SHAPES", {"a shape": ((4, 4), 7, False)})
    monkeypatch.setattr(speed, "COUNTED", [])
    assert speed.stage({}, TINY) is False


@pytest.mark.parametrize("training_step", [False, True])
def test_each_way_of_training_runs(training_step):
    found = training.measure(TINY, training_step)
    assert list(found) == list(training.WAYS)
    assert next(iter(results.training_rows({"case": found})))[0] == "case"


def test_the_table_of_speed():
    cases = {
        "copy": {"bytes": 2000, "seconds": [0.5, 1.0, 2.0]},
        "pack": {
            "bytes": 1600,
            "moved": 1800,
            "seconds": [1.0, 1.0, 1.0],
            "rivals": {"slow": [9, 9, 9], "fast": [4, 3, 5]},
        },
        "count": {"rows": 3_000_000_000, "moved": 1000, "seconds": [1.0, 2.0, 3.0]},
        "broken": {"error": "ValueError: no"},
    }
    assert list(results.speed_rows(cases)) == [
        ["copy", "0 GB/s", "-", "-"],
        ["pack", "0 GB/s", "0.90", "3.0 fast"],
        ["count", "1.50 G rows/s", "0.25", "-"],
        ["broken", "failed: ValueError: no", "-", "-"],
    ]


def test_the_page_says_when_nothing_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert results.page_section() == "Nothing has been measured on a GPU yet."
    results.write("training", {"gpu": "a device"}, {"step": {"bare": [1, 2, 3], "us": [1, 3, 4]}})
    page = results.write_page("before\n<!-- table: gpu -->\nold\n<!-- end: gpu -->\nafter")
    assert "gpu a device" in page
    assert "| step | 2000.0 ms | us +50.0 % |" in page
    assert "old" not in page


REPORT = """<testsuites><testsuite>
<testcase name="one" time="1.5"/>
<testcase name="two" time="0.5"><failure message="assert 1 == 2&#10;more"/></testcase>
<testcase name="three" time="0"><skipped message="no numba_cuda"/></testcase>
</testsuite></testsuites>"""


def test_what_the_tests_on_a_device_said():
    assert tests.summary(REPORT) == {
        "passed": 1,
        "seconds": 2.0,
        "failed": {"two": "assert 1 == 2"},
        "skipped": {"three": "no numba_cuda"},
    }


def test_sanitizers_that_did_not_run_are_no_success():
    passed = f"{len(sanitizers.CASES)} passed\n"
    clean = f"========= COMPUTE-SANITIZER\n{passed}========= ERROR SUMMARY: 0 errors\n"
    races = (
        f"========= COMPUTE-SANITIZER\n{passed}========= RACECHECK SUMMARY: 0 hazards displayed\n"
    )
    assert sanitizers.verdict("memcheck", 0, clean)["errors"] == 0
    assert sanitizers.verdict("racecheck", 0, races)["errors"] == 0
    assert sanitizers.verdict("memcheck", 9, clean.replace(": 0", ": 4"))["errors"] == 4
    for output in (
        "",
        passed,
        "========= COMPUTE-SANITIZER\n========= Error: Device not supported",
    ):
        assert sanitizers.verdict("memcheck", 0, output)["errors"] is None


def test_every_case_under_a_sanitizer_exists():
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "--collect-only"]
    done = subprocess.run(
        [*command, *sanitizers.CASES], capture_output=True, text=True, cwd=ROOT, timeout=1200
    )
    assert f"{len(sanitizers.CASES)} tests collected" in done.stdout, done.stdout[-2000:]
