"""The CUDA kernels run on a CPU, under sanitizers: faults planted in them are seen.

What they do without faults is in cases/.
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
    for kernel in (*KERNELS.glob("*.cu"), *KERNELS.glob("*.h")):
        if kernel.name == "device.h":
            continue
        code = kernel.read_text()
        assert not re.search(r"__\w*(CUDA|NVCC|GNUC|clang)\w*__|#\s*if.*defined", code), kernel.name
        asked = set(re.findall(r"#\s*(?:if|ifdef|ifndef|elif)\s+(\w+)", code))
        own = {"LANES", "WORDS", "WIDTH", "INDEX", "VECTORS"}
        assert asked <= own | {"BITS", "TRANSFORMED", "PER_NEURON", "HALVES"}


# Planted faults: the kernel file, its text, the replacement, the test case that must fail, and a
# part of its output.
FAULTS = {
    "reads beyond the end": (
        "pack_rows.cu",
        "if (byte < bytes) eight[i] = read_eight",
        "eight[i] = read_eight",
        "test_pack[one state-float32-zero]",
        "heap-buffer-overflow",
    ),
    "reads no multiple of 16": (
        "stream.h",
        "*aligned = numbers - skew;",
        "*aligned = numbers;",
        "test_pack[NCHW 5 x 5, misaligned-float32-zero]",
        "misaligned address",
    ),
    "does not wait": (
        "pack_rows.cu",
        "    __syncthreads();",
        "",
        "test_pack[rows of 20-float32-zero]",
        "assert False",
    ),
    "turns bytes around": (
        "firing.h",
        "<< i;",
        "<< (7 - i);",
        "test_pack[rows of 64-float32-zero]",
        "assert False",
    ),
    "forgets what comes before the first whole byte": (
        "stream.h",
        "threadIdx.x == 0 && skew",
        "false",
        "test_pack[NCHW 5 x 5, misaligned-float32-zero]",
        "assert False",
    ),
    "forgets a change of places": (
        "pack_maps.cu",
        "half; half /= 2",
        "half > 1; half /= 2",
        "test_pack[NCHW 7 x 7-float32-zero]",
        "assert False",
    ),
    "writes into the next block's neurons": (
        "pack_maps.cu",
        "(first + count + 7) / 8, words",
        "row_bytes, words",
        "test_pack[NCHW 55 x 55, many channels-float32-zero]",
        "assert False",
    ),
    "waits for some threads only": (
        "pack_rows.cu",
        "    __syncthreads();",
        "    __ballot_sync(~0u, true); if (threadIdx.x % 2) __ballot_sync(~0u, true);",
        "test_pack[rows of 20-float32-zero]",
        "threads wait for others that never come",
    ),
    "counts a warp's equal rows once": (
        "count.cu",
        "u32 number = __popc(equal);",
        "u32 number = 1;",
        "test_table[3]",
        "assert False",
    ),
    "forgets to empty the block's table": (
        "count.cu",
        "if (block_counts[i]) {",
        "if (false) {",
        "test_table[8]",
        "AssertionError",
    ),
    "loses a count": (
        "count_wide.cu",
        "atomicAdd(counts + slot, number);",
        "counts[slot] = number;",
        "test_table[16]",
        "assert False",
    ),
    "writes a row too many": (
        "count_wide.cu",
        "if ((u64)at >= *fresh_count) return;\n    u64 known = *kept, index",
        "u64 known = *kept, index",
        "test_table[64]",
        "AddressSanitizer",
    ),
}


# One that each watcher sees: either sanitizer, the fibers, and the comparison of the results.
SAMPLE = [
    *("reads beyond the end", "reads no multiple of 16", "waits for some threads only"),
    "loses a count",
]


@pytest.mark.parametrize("fault", thinned(list(FAULTS), SAMPLE))
def test_faults_are_detected(fault, tmp_path):
    file, before, after, case, said = FAULTS[fault]
    kernels = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    code = (kernels / file).read_text()
    assert before in code
    (kernels / file).write_text(code.replace(before, after))
    cases = "counting.py" if file.startswith("count") else "packing.py"
    done = run_cases(f"{cases}::{case}", kernels=kernels)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.skipif(find_spec("cupy") is not None, reason="there may be a GPU")
def test_without_a_gpu_the_tests_for_one_fail():
    done = run_cases("packing.py::test_empty_arrays", TENSORSTATE_TEST_GPU="1")
    assert done.returncode == 1
    assert "need CuPy: pip install" in done.stdout
