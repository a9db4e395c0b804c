"""No kernel becomes slow: beside plain loops of its kind, and by the instructions it is made of.

benchmarks/cpu/regression_guard.py says what is compared. It runs in a process of its own, where no
other test has left threads or memory.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cpu import guarded_kernels, instructions, modelled_cycles, regression_guard
from tensorstate_gpu.cpu_fallback.intrinsics import load_word, store_byte, store_word
from tensorstate_gpu.cpu_fallback.lanes import firing_mask_1

ROOT = Path(__file__).parents[2]


def run_guard(what):
    command = [sys.executable, "-m", "benchmarks.cpu.regression_guard", what]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200)


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize("what", ["check", "plant"])
def test_kernels_keep_up_and_the_guard_sees_those_that_do_not(what):
    done = run_guard(what)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_plain_loops_give_what_our_calls_give():
    for name, (ours, plain) in guarded_kernels.cases().items():
        np.testing.assert_array_equal(ours(), plain(), err_msg=name)


def test_bounds_are_those_of_the_processor_or_below_those_of_the_nearest():
    kept = {
        "znver3, 128 bits": {"sort": 0.5, "pack": 0.9},
        "znver3, 256 bits": {"sort": 0.6, "pack": 0.8},
        "skylake, 256 bits": {"sort": 0.1, "pack": 1.0},
    }
    known, part = regression_guard.KNOWN, regression_guard.UNKNOWN

    def floors(which):
        return regression_guard.floors(kept, which)

    assert floors("znver3, 256 bits") == {"sort": 0.6 * known, "pack": 0.8 * known}
    assert floors("znver4, 256 bits") == {"sort": 0.6 * part, "pack": 0.8 * part}
    assert floors("znver4, 512 bits") == {"sort": 0.5 * part, "pack": 0.8 * part}  # both of Zen 3
    assert floors("haswell, 256 bits") == {"sort": 0.1 * part, "pack": 0.8 * part}  # AVX2
    assert floors("apple-m1, 64 bits") == {"sort": 0.1 * part, "pack": 0.8 * part}  # all


def test_ratios_are_kept_of_every_case():
    for ratios in regression_guard.known().values():
        assert ratios.keys() == guarded_kernels.cases().keys()


def test_a_measurement_that_another_program_disturbs_is_repeated(monkeypatch):
    """Ours takes 1 s, then 4 s on a busy machine: slow only where it never gets below its bound."""
    monkeypatch.setattr(regression_guard, "ROUNDS", 1)
    monkeypatch.setattr(regression_guard, "SECONDS", 0)
    for ours, found in (((4, 4, 1, 1), {}), ((4, 4, 4, 4), {"sort": 0.25})):
        times = iter([time for own in ours for time in (own, 1)])
        monkeypatch.setattr(regression_guard, "_seconds", lambda call, times=times: next(times))
        assert regression_guard.slow({"sort": (list, list)}, {"sort": 0.5}) == found


only_x86 = pytest.mark.skipif(
    not instructions.on_x86(), reason="instructions are counted in x86 code only"
)


def too_many(name, function=None):
    """The widths for which a kernel (or a function) has more instructions than it may."""
    limits = zip(
        instructions.counts(name, function).items(), instructions.LIMITS[name], strict=True
    )
    return [width for (width, count), limit in limits if count > limit]


@only_x86
@pytest.mark.parametrize("name", instructions.KERNELS)
def test_inner_loops_are_made_of_vectors(name):
    assert not too_many(name)


def pack_one_by_one(address, numbers, test, packed, start, stop):
    target = packed.ctypes.data
    for word in range(start, stop):
        mask = np.uint64(0)
        for bit in range(64):
            place = address + (64 * word + bit) * numbers[1]
            mask |= firing_mask_1(place, test, 0) << np.uint64(bit)
        store_word(mask, target + 8 * word)


def unpack_one_by_one(rows, states, start, stop):
    source, target = rows.ctypes.data, states.ctypes.data
    for word in range(start, stop):
        bits = load_word(source + 8 * word)
        for bit in range(64):
            store_byte((bits >> np.uint64(bit)) & np.uint64(1), target + 64 * word + bit)


@only_x86
@pytest.mark.parametrize("name", instructions.KERNELS)
def test_loops_over_single_numbers_would_be_noticed(name):
    one_by_one = unpack_one_by_one if name == "unpack" else pack_one_by_one
    assert too_many(name, one_by_one) == list(instructions.WIDTHS)


def test_modelled_cycles_say_what_they_need(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"needs llvm-mca of LLVM 17 or later"):
        modelled_cycles.main()


@only_x86
@pytest.mark.skipif(modelled_cycles.find_model() is None, reason="llvm-mca is not installed")
def test_modelled_cycles_are_those_of_a_loop():
    """Two additions that wait for each other take two cycles, on any of these processors."""
    program = modelled_cycles.find_model()
    loop = ["addq %rax, %rbx", "addq %rbx, %rax"]
    for processor, width in modelled_cycles.PROCESSORS.values():
        if width != "NEON":
            assert 2 <= modelled_cycles.cycles(program, loop, processor, width) < 2.1
