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


def test_kernels_do_not_ask_who_compiles_them():
    """Else another code would run in tests than on a GPU."""
    for kernel in KERNELS.glob("*.cu"):
        code = kernel.read_text()
        assert not re.search(r"__\w*(CUDA|NVCC|GNUC|clang)\w*__|#\s*if.*defined", code), kernel.name
        asked = set(re.findall(r"#\s*(?:if|ifdef|ifndef|elif)\s+(\w+)", code))
        assert asked <= {"BITS", "TRANSFORMED", "PER_NEURON", "LANES", "HALVES", "WORDS", "WIDTH"}


# Planted faults: the kernel file, its text, the replacement, the test case that must fail, and a
# part of its output.
FAULTS = {
    "reads beyond the end": (
        "pack",
        "if (byte < bytes) eight[i] = read_eight",
        "eight[i] = read_eight",
        "test_pack[one state-float32-zero]",
        "heap-buffer-overflow",
    ),
    "reads no multiple of 16": (
        "pack",
        "read_once((const uint4 *)(source + head) + i)",
        "read_once((const uint4 *)source + i)",
        "test_pack[NCHW 5 x 5, misaligned-float32-zero]",
        "misaligned address",
    ),
    "does not wait": (
        "pack",
        "    __syncthreads();",
        "",
        "test_pack[rows of 20-float32-zero]",
        "assert False",
    ),
    "turns bytes around": (
        "pack",
        "<< i;",
        "<< (7 - i);",
        "test_pack[rows of 64-float32-zero]",
        "assert False",
    ),
    "waits for some threads only": (
        "pack",
        "    __syncthreads();",
        "    __ballot_sync(~0u, true); if (threadIdx.x % 2) __ballot_sync(~0u, true);",
        "test_pack[rows of 20-float32-zero]",
        "threads wait for others that never come",
    ),
    "counts a warp's equal rows once": (
        "count",
        "u32 number = __popc(equal);",
        "u32 number = 1;",
        "test_table[3]",
        "assert False",
    ),
    "forgets to empty the block's table": (
        "count",
        "if (block_counts[i]) {",
        "if (false) {",
        "test_table[8]",
        "AssertionError",
    ),
    "loses a count": (
        "count_wide",
        "atomicAdd(counts + slot, number);",
        "counts[slot] = number;",
        "test_table[16]",
        "assert False",
    ),
    "writes a row too many": (
        "count_wide",
        "if ((u64)at >= *fresh_count) return;\n    u64 known = *kept, index",
        "u64 known = *kept, index",
        "test_table[64]",
        "AddressSanitizer",
    ),
}


FILES = {"pack": "packing.py", "count": "counting.py", "count_wide": "counting.py"}
# One that each watcher sees: either sanitizer, the fibers, and the comparison of the results.
SAMPLE = [
    *("reads beyond the end", "reads no multiple of 16", "waits for some threads only"),
    "loses a count",
]


@pytest.mark.parametrize("fault", thinned(list(FAULTS), SAMPLE))
def test_faults_are_detected(fault, tmp_path):
    source, before, after, case, said = FAULTS[fault]
    kernels = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    code = (kernels / f"{source}.cu").read_text()
    assert before in code
    (kernels / f"{source}.cu").write_text(code.replace(before, after))
    done = run_cases(f"{FILES[source]}::{case}", kernels=kernels)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]


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
