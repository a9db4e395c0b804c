"""Every specialisation of every CUDA kernel, compiled for the supported GPUs, without a driver.

The machine code must use no stack and no local memory (signs of a register array indexed at run
time, or of too few registers), few enough registers for 512 threads on a multiprocessor, or 1024
where one block is to fill it, and loads of 16 bytes where memory must be read at full speed.
"""

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.gpu.machine_code import (
    ARCHITECTURES,
    compiler,
    cubin,
    instructions,
    launches,
    measured,
    recorded,
    resources,
)
from tests.support.samples import sample, sweep, thinned

if sys.platform != "linux":
    pytest.skip("NVRTC and cuobjdump come as wheels for Linux", allow_module_level=True)
import cuda.core  # noqa: F401, before threads would: side by side, one may find it half imported

MOST_REGISTERS = 128
MOST_REGISTERS_OF = {"count_rows": 64}  # for blocks of 1024 threads
PLANES_OF_BYTES_ON_SM_75 = 147  # registers, of pack_planes for 8-bit numbers and their thresholds
# Of 310 variants with a threshold for each neuron, 11 spill 8 bytes.
PER_NEURON_STACK = 8
# The same for NVRTC 13.0, which CUDA builds of torch 2.13 bring: bytes of stack that some of these
# kernels use (9 of 845 variants without thresholds), and registers (146 and 148 of two more).
OTHER_STACK = {"count_rows": 32, "pack_planes": 8}
OTHER_REGISTERS = {"pack_planes": 148}
# Of what another compiler makes, times what is recorded. NVRTC 13.0: up to 1.07 and 1.19.
OTHER_COSTS = {"instructions per byte": 1.1, "registers": 1.25}
FLOATS = [
    {"BITS": bits, "TRANSFORMED": transformed, "PER_NEURON": per_neuron, "HALVES": 0}
    for bits, transformed, per_neuron in itertools.product((8, 16, 32, 64), (0, 1), (0, 1))
]
FLOATS += [{"BITS": 16, "TRANSFORMED": 0, "PER_NEURON": 0, "HALVES": halves} for halves in (1, 2)]
STRIDED = [("pack_strided", {"INDEX": 32}), ("pack_strided", {"INDEX": 64})]
STRIDED += [
    ("pack_pitched", {"ALIGNED": aligned, "AXES": axes}) for aligned in (0, 1) for axes in range(3)
]
PACK = [(source, test) for source in ("pack_rows", "pack_maps") for test in FLOATS]
PACK += [
    ("pack_planes", test | {"LANES": lanes})
    for test in FLOATS
    for lanes in sorted({1, 64 // test["BITS"], 128 // test["BITS"]})
]
PACK += [(source, test | how) for test in FLOATS for source, how in STRIDED]
COUNT_WIDE = [
    {"UNIT": unit, "LANES": lanes} for unit in (1, 4, 8, 16) for lanes in (1, 2, 4, 8, 32)
]
BITS = [("neurons", {}), *(("transpose", {"WORDS": words}) for words in (0, 1))]
BITS += [("distances", {"EACH": each}) for each in (1, 2, 3, 4)]
UNPACK = [{"INDEX": bits, "WORDS": words} for bits in (32, 64) for words in (0, 1)]
# Kernels that read 16 bytes at a time, for numbers of these widths in bits.
WIDE = dict.fromkeys(("pack_whole_bytes", "pack_rows", "pack_maps", "pack_pitched"), (16, 32, 64))


def check(source, defines, architecture, folder):
    path = folder / "-".join([source, architecture, *map(str, defines.values())])
    path.write_bytes(cubin(source, defines, architecture))
    used = resources(path)
    sass = {kernel: {each.name for each in code} for kernel, code in instructions(path).items()}
    assert used
    assert set(used) == set(sass)
    for kernel, amounts in used.items():
        per_neuron = bool(defines.get("PER_NEURON"))
        most = MOST_REGISTERS_OF.get(kernel, MOST_REGISTERS)
        if per_neuron and (kernel, architecture, defines["BITS"]) == ("pack_planes", "sm_75", 8):
            most = PLANES_OF_BYTES_ON_SM_75
        if not is_recorded_compiler():
            most = max(most, OTHER_REGISTERS.get(kernel, 0))
        assert amounts["REG"] <= most, (kernel, amounts)
        stack = PER_NEURON_STACK if per_neuron else 0
        if not is_recorded_compiler():
            stack = max(stack, OTHER_STACK.get(kernel, 0))
        assert amounts["STACK"] <= stack, (kernel, amounts)
        assert amounts["LOCAL"] == 0, (kernel, amounts)
        loads = {name for name in sass[kernel] if name.startswith("LDG")}
        assert loads
        spills = any(name.startswith(("LDL", "STL")) for name in sass[kernel])
        assert stack or not spills, kernel
        wide = any(".128" in name for name in loads)
        meant = defines.get("BITS") in WIDE.get(kernel, ())
        meant |= kernel == "pack_planes" and defines["LANES"] * defines["BITS"] == 128
        meant |= defines.get("UNIT") == 16
        assert wide or not meant, (kernel, loads)
        compared = {name for name in sass[kernel] if name.startswith(("FSET", "HSET"))}
        assert not any(".FTZ" in name for name in compared), (kernel, compared)
        packed = any(name.startswith("HSET2") for name in sass[kernel])
        native = (0, 70, 90)[
            defines.get("HALVES", 0)
        ]  # the first compute capability with such instructions
        assert packed == (kernel.startswith("pack") and 0 < native <= int(architecture[3:])), kernel


@pytest.mark.slow
@pytest.mark.parametrize("architecture", thinned(ARCHITECTURES, ["sm_120"]))
@sweep
def test_cubins(every, architecture, tmp_path):
    work = PACK + [("unpack", defines) for defines in UNPACK]
    work += [("count", {"WIDTH": width}) for width in range(1, 9)]
    work += [("count_wide", defines) for defines in COUNT_WIDE]
    work = sample(work, 6, every, seed=architecture) + BITS
    work += [("stage", {}), ("small_batches", {})]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda each: check(*each, architecture, tmp_path), work))


def is_recorded_compiler():
    return compiler() == recorded()[0]


SOME = ["NCHW 56 x 56, int8", "LM head, rows of 50257, bfloat16", "counting rows of 63 bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", thinned(ARCHITECTURES, ["sm_90"]))
@pytest.mark.parametrize("name", thinned([name for name, _ in launches()], SOME))
def test_machine_code_is_as_short_as_recorded(name, architecture):
    """In benchmarks/results/gpu_machine_code.json, which is written anew after a change.

    How many reads are under way is up to the compiler, and so not compared with another one's.
    """
    costs, found = recorded()[1][architecture][name], measured(dict(launches())[name], architecture)
    if is_recorded_compiler():
        assert found == costs
    else:
        assert found["kernel"] == costs["kernel"]
        for what, most in OTHER_COSTS.items():
            if costs[what] == "-":  # of tables: no loop is over bytes
                assert found[what] == "-"
            else:
                assert found[what] <= most * costs[what], what
