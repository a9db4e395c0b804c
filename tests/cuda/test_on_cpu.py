"""The CUDA backend runs on a CPU: faults planted in its kernels and its host code are seen.

What it does without faults is in cases/.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tensorstate_gpu.cuda.launch import KERNELS
from tests.cuda.kernel_faults import FAULTS
from tests.cuda.simt import machine
from tests.cuda.simulated.faults import FAULTS as HOST_FAULTS
from tests.support.samples import thinned

HERE = Path(__file__).parent
if sys.platform != "linux":
    pytest.skip("the sanitizers are preloaded as on Linux", allow_module_level=True)


def run_cases(*cases, kernels=KERNELS, **variables):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=", "-p", "tests.support.case_process"]
    cases = [str(HERE / "cases" / case) for case in cases]
    environment = os.environ | machine.preload() | {"SIMT_KERNELS": str(kernels)} | variables
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [*command, *cases],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        cwd=HERE.parents[1],
    )


def file_of(case):
    test = f"def {case.partition('[')[0]}("
    (file,) = [file.name for file in HERE.glob("cases/*.py") if test in file.read_text()]
    return file


def changed_kernels(folder, *changes):
    """Copies of the kernels, in which parts of files are replaced: (file, before, after)."""
    kernels = Path(shutil.copytree(KERNELS, folder / "kernels"))
    for file, before, after in changes:
        code = (kernels / file).read_text()
        assert before in code
        (kernels / file).write_text(code.replace(before, after))
    return kernels


def test_kernels_do_not_ask_who_compiles_them():
    """Else another code would run in tests than on a GPU."""
    for kernel in (*KERNELS.glob("*.cu"), *KERNELS.glob("*.h")):
        if kernel.name == "device.h":
            continue
        code = kernel.read_text()
        assert not re.search(r"__\w*(CUDA|NVCC|GNUC|clang)\w*__|#\s*if.*defined", code), kernel.name
        asked = set(re.findall(r"#\s*(?:if|ifdef|ifndef|elif)\s+(\w+)", code))
        own = {"LANES", "WORDS", "WIDTH", "INDEX", "ALIGNED", "UNIT"}
        assert asked <= own | {"BITS", "TRANSFORMED", "PER_NEURON", "HALVES"}


def test_each_fault_is_in_a_kernel_and_has_one_case():
    """Most are planted in `make test-all` only."""
    for fault, (file, before, _, case, _) in FAULTS.items():
        assert before in (KERNELS / file).read_text(), fault
        assert file_of(case), fault


# One that each watcher sees: either sanitizer, the fibers, and the comparison of the results.
SAMPLE = ["reads no multiple of 16", "waits for some threads only", "loses a count"]


@pytest.mark.parametrize("fault", thinned(list(FAULTS), SAMPLE))
def test_faults_are_detected(fault, tmp_path):
    file, before, after, case, said = FAULTS[fault]
    kernels = changed_kernels(tmp_path, (file, before, after))
    done = run_cases(f"{file_of(case)}::{case}", kernels=kernels)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("compared", thinned([True, False], [False]))
def test_hashes_decide_only_where_a_search_begins(compared, tmp_path):
    """Rows are compared even if all have the same tag."""
    changes = [
        ("count_wide.cu", "return tagged && tagged >> 32 == hash >> 32;", "return tagged;"),
        ("count_wide.cu", "if (there != (tag(hash) | READY))", "if ((u32)there != READY)"),
    ]
    if not compared:
        equal = "equal &= bytes.low == others.low && bytes.high == others.high;"
        changes.append(("wide_row.h", equal, ""))
    kernels = changed_kernels(tmp_path, *changes)
    done = run_cases("tables.py::test_table[16]", kernels=kernels)
    assert (done.returncode == 0) == compared, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize(("width", "held"), thinned([(100, True), (512, True), (2100, False)], []))
def test_rows_are_read_once(width, held, tmp_path):
    """What is done with a row of up to 512 bytes is done with registers, not with its address."""
    once = ("wide_row.h", "    return row;\n", "    row.bytes = 0;\n    return row;\n")
    kernels = changed_kernels(tmp_path, once)
    done = run_cases(f"tables.py::test_wide_rows[{width}]", kernels=kernels)
    assert (done.returncode == 0) == held, done.stdout[-3000:] + done.stderr[-3000:]


# The programs of `make test`, with a fault: the first that sees it ends the process.
@pytest.mark.parametrize("fault", thinned(list(HOST_FAULTS), ["no wait after"]))
def test_faults_of_the_host_are_detected(fault):
    pytest.importorskip("torch")
    done = run_cases("streams.py", HOST_FAULT=fault)
    assert done.returncode == 1, done.stdout[-3000:]
    assert "1 failed" in done.stdout


@pytest.mark.skipif(find_spec("cupy") is not None, reason="there may be a GPU")
def test_without_a_gpu_the_tests_for_one_fail():
    done = run_cases("packing.py::test_empty_arrays", TENSORSTATE_TEST_GPU="1")
    assert done.returncode == 1
    assert "need CuPy: pip install" in done.stdout
