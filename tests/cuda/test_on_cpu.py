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


def file_of(case):
    test = f"def {case.partition('[')[0]}("
    (file,) = [file.name for file in HERE.glob("cases/*.py") if test in file.read_text()]
    return file


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
    "takes bits of the row after": (
        "pack_pitched.cu",
        "of[i].left <= 8 || (",
        "(",
        "test_pack[wide rows of a wider array-float32-zero]",
        "assert False",
    ),
    "forgets that a warp has an end": (
        "pack_pitched.cu",
        " || (lane == 31 && i == BYTES_PER_THREAD - 1)",
        "",
        "test_pack[wide rows of a wider array-float32-zero]",
        "assert False",
    ),
    "reads beyond the end of a row": (
        "pack_pitched.cu",
        "end >= 8 ? read_eight(of[i].numbers) : read_some(of[i].numbers, end)",
        "read_eight(of[i].numbers)",
        "test_pack[too wide for the stream-float32-zero]",
        "AddressSanitizer",
    ),
    "multiplies in 32 bits": (
        "pack_strided.cu",
        "(i64)(state % run) * run_stride",
        "(i32)(state % run) * (i32)run_stride",
        "test_packing[pack_strided]",
        "signed integer overflow",
    ),
    "gives back what is behind the last number": (
        "pack_pitched.cu",
        "u32 mask = of[i].left < 8 ? (1u << of[i].left) - 1 : 255u;",
        "u32 mask = 255u;",
        "test_any_array_is_packed[float32-zero-some]",
        "AssertionError",
    ),
    "forgets the signs of bytes": (
        "firing.h",
        "(~key & lowest) | ",
        "",
        "test_every_8_bit_number[int8]",
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
    "writes over another block's neurons": (
        "pack_maps.cu",
        "all_bytes + first / 8;",
        "all_bytes;",
        "test_pack[NCHW 55 x 55, many channels-float32-zero]",
        "assert False",
    ),
    "writes rows before they are there": (
        "pack_planes.cu",
        "    __syncthreads();",
        "",
        "test_pack[NCHW-float32-zero]",
        "assert False",
    ),
    "mixes the words of groups": (
        "pack_planes.cu",
        "* groups + group)] = words[i]",
        "* groups)] = words[i]",
        "test_pack[NCHW-float32-zero]",
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
        "add_to_table(table, key, __popc(equal), there",
        "add_to_table(table, key, 1, there",
        "test_table_of_equal_rows[8-0]",
        "assert False",
    ),
    "forgets what a block has counted": (
        "count.cu",
        "    add_cache_to_table(cache, table);\n",
        "",
        "test_table[8]",
        "assert False",
    ),
    "caches rows that have no slot": (
        "count.cu",
        "if (outcome != REFUSED && key[i] != EMPTY)",
        "if (key[i] != EMPTY)",
        "test_each_row_is_counted_or_refused[False-3]",
        "assert",
    ),
    "takes empty cache slots for the row of all ones": (
        "count.cu",
        "if (todo[i] && key[i] != EMPTY) todo[i]",
        "if (todo[i]) todo[i]",
        "test_rows_that_share_a_place_in_the_cache_with_the_row_of_all_ones",
        "assert False",
    ),
    "loses the weights of refused rows": (
        "count.cu",
        "refused_weights[place] = weights[index];",
        "refused_weights[place] = 1;",
        "test_each_row_is_counted_or_refused[True-8]",
        "assert False",
    ),
    "takes slots that another block has taken": (
        "count.cu",
        "there = atomicCAS(&table.slots[at].key, EMPTY, key);",
        "there = EMPTY; table.slots[at].key = key;",
        "test_table[8]",
        "assert",
    ),
    "moves keys without their counts": (
        "count.cu",
        "add_to_table(table, key, old[at].count, there, true, mask)",
        "add_to_table(table, key, 1, there, true, mask)",
        "test_table[3]",
        "assert False",
    ),
    "never closes": (
        "count.cu",
        "bool open = read_now(used) < limit, todo[EACH];",
        "bool open = true, todo[EACH];",
        "test_full_tables_are_closed[8]",
        "AssertionError",
    ),
    "lists refused rows over one another": (
        "hash_table.h",
        " + __popc(votes & ((1u << lane) - 1))",
        "",
        "test_each_row_is_counted_or_refused[False-8]",
        "assert False",
    ),
    "searches everywhere": (
        "hash_table.h",
        "#define MOST_STEPS 128",
        "#define MOST_STEPS 1024",
        "test_rows_that_collide",
        "AssertionError",
    ),
    "estimates by the lowest rank": (
        "hash_table.h",
        "rank = 1 + __clz(",
        "rank = 2 + __clz(",
        "test_estimates[40000-8]",
        "AssertionError",
    ),
    "loses a count": (
        "count_wide.cu",
        "atomicAdd(&slots[slot].count, weights ? (u64)weights[index] : 1ull);",
        "slots[slot].count = 1;",
        "test_table[16]",
        "assert False",
    ),
    "refers to a row that is not there yet": (
        "count_wide.cu",
        "    copy_row(row, table.kept + at * width, width, group);\n    __threadfence();",
        "    if (group.part == 0) write_now(&table.slots[at].tagged, tag(hash) | KEPT);\n"
        "    __threadfence();\n    copy_row(row, table.kept + at * width, width, group);",
        "test_table_of_equal_rows[24-0]",
        "assert",
    ),
    "caches wide rows that have no slot": (
        "count_wide.cu",
        "if (outcome != REFUSED && caches) {",
        "if (caches) {",
        "test_each_row_is_counted_or_refused[False-16]",
        "assert",
    ),
    "copies a part too many": (
        "count_wide.cu",
        "i * UNIT < width; i += LANES",
        "i * UNIT <= width; i += LANES",
        "test_each_row_is_counted_or_refused[False-16]",
        "AddressSanitizer",
    ),
    "loses what a byte cannot hold": (
        "neurons.cu",
        "#define GROUPS 31",
        "#define GROUPS 32",
        "test_sums_of_many_words_in_a_thread[1]",
        "assert",
    ),
    "reads words beyond the rows": (
        "neurons.cu",
        "at + 4 <= total",
        "at < total",
        "test_firing_counts[shape2]",
        "AddressSanitizer",
    ),
    "takes states beyond the last": (
        "transpose.cu",
        "if (state < states) word",
        "word",
        "test_cofiring[shape0-1]",
        "AddressSanitizer",
    ),
    "compares strips that are not there yet": (
        "distances.cu",
        "        __syncthreads();\n        compare_strips",
        "        compare_strips",
        "test_distances[rows2-68]",
        "assert",
    ),
    "compares a share of the words again": (
        "distances.cu",
        "(blockIdx.x % parts) * share",
        "0",
        "test_blocks_share_long_rows_of_few_neurons[132-13]",
        "assert",
    ),
    "overwrites what other blocks have added": (
        "distances.cu",
        "atomicAdd(sums + at * count + to, (u64)differing[i][j])",
        "sums[at * count + to] = differing[i][j]",
        "test_blocks_share_long_rows_of_few_neurons[132-13]",
        "assert",
    ),
    "appends what does not fit": (
        "stage.cu",
        "status[ACTIVE] && status[ROWS] + number <= capacity",
        "status[ACTIVE]",
        "test_what_replays_lose_is_told",
        "AddressSanitizer",
    ),
    "appends over the batch before": (
        "stage.cu",
        "rows + status[ROWS] * width + byte",
        "rows + byte",
        "test_replays_are_counted[0]",
        "assert",
    ),
    "notes a batch before its labels": (
        "stage.cu",
        "    __syncthreads();  // all threads have read the status\n",
        "",
        "test_labels_of_replays",
        "assert",
    ),
    "appends while it is not active": (
        "stage.cu",
        "if (!status[ACTIVE]) return;",
        "",
        "test_the_host_does_not_wait_to_sample",
        "assert",
    ),
    "counts what it refuses": (
        "count_wide.cu",
        "if (outcome != REFUSED && leads) {",
        "if (leads) {",
        "test_each_row_is_counted_or_refused[False-16]",
        "",
    ),
}


# One that each watcher sees: either sanitizer, the fibers, and the comparison of the results.
SAMPLE = ["reads no multiple of 16", "waits for some threads only", "loses a count"]


@pytest.mark.parametrize("fault", thinned(list(FAULTS), SAMPLE))
def test_faults_are_detected(fault, tmp_path):
    file, before, after, case, said = FAULTS[fault]
    kernels = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    code = (kernels / file).read_text()
    assert before in code
    (kernels / file).write_text(code.replace(before, after))
    done = run_cases(f"{file_of(case)}::{case}", kernels=kernels)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("compared", thinned([True, False], [False]))
def test_hashes_decide_only_where_a_search_begins(compared, tmp_path):
    """Rows are compared even if all have the same tag."""
    kernels = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    code = (kernels / "count_wide.cu").read_text()
    changes = {
        "return tagged && tagged >> 32 == hash >> 32;": "return tagged;",
        "if (there != (tag(hash) | READY)) continue;": "if ((u32)there != READY) continue;",
    }
    if not compared:
        changes["equal &= one.low == two.low && one.high == two.high;"] = ""
    for before, after in changes.items():
        assert before in code
        code = code.replace(before, after)
    (kernels / "count_wide.cu").write_text(code)
    done = run_cases("tables.py::test_table[16]", kernels=kernels)
    assert (done.returncode == 0) == compared, done.stdout[-3000:] + done.stderr[-3000:]


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
