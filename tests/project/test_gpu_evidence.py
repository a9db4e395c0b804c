"""`make gpu` without a GPU: it refuses; its benchmarks run on a CPU; its tables say what is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import bounded, results, sanitizers, speed, training
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.clock import Place
from tests.support.cases import cases_in

ROOT = Path(__file__).parents[2]
TINY = Place("cpu", tiny=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_it_fails(capsys):
    assert main([]) == 1
    assert "no CUDA GPU can be used here, so nothing was run" in capsys.readouterr().err


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from tests.cuda import simulated
simulated.install()
from benchmarks.gpu.__main__ import main
sys.exit(main(["speed", "training", "sanitizers"]))
"""


def test_without_torch_the_stages_that_need_it_say_so(tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH]
    variables = {"PYTHONPATH": str(ROOT), "TENSORSTATE_GPU_RESULTS": str(tmp_path)}
    options = {"env": os.environ | variables, "cwd": ROOT}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 1
    for name in ("speed", "training"):
        assert f"{name}: not run, something that it needs is missing: import" in done.stderr
    (written,) = tmp_path.glob("*.json")
    found = json.loads(written.read_text())
    assert found["machine"]["gpu"] == "a simulated GPU"
    assert list(found["cases"]) == list(sanitizers.TOOLS)


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
    found = {}
    ways = [*training.WAYS, *(() if training_step else training.FORWARD_WAYS)]
    assert list(training.measure(TINY, 256, training_step, found)) == ways[1:]
    assert list(found) == ways
    assert next(iter(results.training_rows({"case": found})))[0] == "case"


def test_the_table_of_speed():
    cases = {
        "copy": {"bytes": 2000, "seconds": [0.5, 1.0, 2.0]},
        "pack": {
            "bytes": 1600,
            "moved": 1800,
            "seconds": [1.0, 1.0, 1.0],
            "host": [4e-5, 5e-5, 6e-5],
            "rivals": {"slow": [9, 9, 9], "fast": [4, 3, 5]},
        },
        "count": {"rows": 3_000_000_000, "moved": 1000, "seconds": [1.0, 2.0, 3.0]},
        "broken": {"error": "ValueError: no"},
    }
    assert list(results.speed_rows(cases)) == [
        ["copy", "0 GB/s", "-", "-", "-"],
        ["pack", "0 GB/s", "0.90", "3.0 fast", "50 us"],
        ["count", "1.50 G rows/s", "0.25", "-", "-"],
        ["broken", "failed: ValueError: no", "-", "-", "-"],
    ]


def test_the_page_says_when_nothing_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert results.page_section() == "Nothing has been measured on a GPU yet."
    results.write("training", {"gpu": "a device"}, {"step": {"bare": [1, 2, 3], "us": [1, 3, 4]}})
    ran = {"passed": 1200, "failed": {"a": "no"}, "exit code": "its time was up"}
    ran["skipped"] = {"b": "NumPy is too new", "c": "NumPy is too new"}
    results.write("tests", {"gpu": "a device"}, {"packing.py": ran})
    page = results.write_page("before\n<!-- table: gpu -->\nold\n<!-- end: gpu -->\nafter")
    assert "gpu a device" in page
    assert "| step | 2000.0 ms | us +50.0 % |" in page
    assert "| packing.py | 1,200 | 1 | 2; NumPy is too new | its time was up |" in page
    assert "old" not in page


def test_cases_whose_time_is_on_record_come_last(tmp_path, monkeypatch):
    code = tmp_path / "kernels/pack_rows.cu"
    code.parent.mkdir()
    code.write_text("one")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "CODE", tmp_path)
    names = ["pack rows", "count rows", "unpack rows", "copy", "co-firing"]
    cases = [(name, None) for name in names]
    measured = {"pack rows": {}, "count rows": {}, "unpack rows": {"error": "no"}}
    results.write("speed", {}, measured)
    order = [name for name, _ in speed.unknown_first(cases)]
    assert order == ["copy", "unpack rows", "co-firing", "pack rows", "count rows"]
    code.write_text("another")
    order = [name for name, _ in speed.unknown_first(cases)]
    assert order == ["copy", "pack rows", "unpack rows", "co-firing", "count rows"]


def test_stages_share_the_time(monkeypatch):
    """What a stage leaves goes to the others, and none takes what is theirs."""
    now = [100.0]
    monkeypatch.setattr(bounded.time, "monotonic", lambda: now[0])
    left = {}
    for name in bounded.in_turn({"tests": 4, "speed": 4, "training": 2}, 100):
        left[name] = bounded.seconds_left()
        now[0] += 20  # of the 40 that the first has
    assert left == pytest.approx({"tests": 40, "speed": 80 * 4 / 6, "training": 60})
    now[0] = 1e9
    bounded.check_time()  # outside of the stages there is no limit


def test_a_stage_whose_time_is_up_ends():
    for _ in bounded.in_turn({"speed": 1}, 0):
        with pytest.raises(TimeoutError, match="the time of this stage is up"):
            bounded.check_time()


def test_results_go_to_the_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORSTATE_GPU_RESULTS", str(tmp_path / "new"))
    results.write("speed", {"gpu": "a device"}, {})
    assert results.read("speed")["machine"] == {"gpu": "a device"}


def test_figures_say_which_code_has_changed_since(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "CODE", tmp_path)
    (tmp_path / "pack.cu").write_text("one")
    found = {"code": results.code()}
    assert results.changed_since(found) == "Measured with the code as it is."
    (tmp_path / "pack.cu").write_text("another")
    assert results.changed_since(found) == "Measured before the last change of `pack.cu`."


def test_the_page_has_the_figures_of_the_committed_results():
    page = (ROOT / "docs/performance.md").read_text()
    assert results.write_page(page) == page, "run python -m benchmarks.gpu.results"


def test_sanitizers_that_did_not_run_are_no_success():
    passed = f"{len(sanitizers.CASES)} passed\n"
    clean = f"========= COMPUTE-SANITIZER\n{passed}========= ERROR SUMMARY: 0 errors\n"
    races = (
        f"========= COMPUTE-SANITIZER\n{passed}========= RACECHECK SUMMARY: 0 hazards displayed\n"
    )
    assert sanitizers.verdict("memcheck", 0, clean)["errors"] == 0
    assert sanitizers.verdict("racecheck", 0, races)["errors"] == 0
    assert sanitizers.verdict("memcheck", 9, clean.replace(": 0", ": 4"))["errors"] == 4
    place = "Race reported between Read access at count_rows+0x310"
    raced = races.replace(": 0", ": 2") + f"========= Error: {place}\n"
    assert sanitizers.verdict("racecheck", 9, raced)["places"] == [f"Error: {place}"]
    warned = races.replace("0 hazards displayed", "4 hazards displayed (1 error, 3 warnings)")
    assert sanitizers.verdict("racecheck", 9, warned)["errors"] == 1
    for output in (
        "",
        passed,
        "========= COMPUTE-SANITIZER\n========= Error: Device not supported",
    ):
        assert sanitizers.verdict("memcheck", 0, output)["errors"] is None


def test_every_case_under_a_sanitizer_exists(pytestconfig):
    there = {case["id"] for case in cases_in(pytestconfig, ROOT / "tests/cuda/cases")}
    assert {*sanitizers.CASES} <= there
