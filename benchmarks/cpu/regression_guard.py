"""A guard against kernels that become slower: each against a plain loop of its own kind.

``python -m benchmarks.cpu.regression_guard`` measures this machine, and keeps its ratios (the
plain loop's time over ours) in benchmarks/results/guard.json, under the processor and the vector
width that Numba uses there. With ``check`` it fails if a kernel is slower than it may be; with
``plant``, if the guard would not notice kernels that are called twice. The test suite runs both,
on any machine, however busy.
"""

import json
import sys
import time
from pathlib import Path

import llvmlite.binding

import tensorstate_gpu as ts
from benchmarks.cpu.guarded_kernels import Call, Case, cases
from benchmarks.cpu.instructions import vector_bits
from benchmarks.harness.memory import keep_freed_memory

KEPT = Path(__file__).resolve().parents[1] / "results/guard.json"
Ratios = dict[str, float]

# Half as fast is a ratio of 0.5 x what it was. On a processor whose ratios are kept, the bound lies
# in the middle between 0.5 and 1, as a factor: noise of 1.4 fits on either side.
KNOWN = 0.71
# On others it is a part of the least one of the nearest. Between SSE2 and AVX2 code ratios differ
# by up to 1.3: below the least by as much they still pass, with room for noise of 1.18.
UNKNOWN = 0.65

# A round takes a few ms at most: even on a busy machine some run without a break. Short ones are
# repeated for longer than a processor keeps one of its clock rates by chance.
ROUNDS, SECONDS = 20, 0.1
# Time that others had the processor does not count, where a clock tells it finely enough.
FINE = time.get_clock_info("thread_time").resolution <= 1e-6
CLOCK = time.thread_time if FINE else time.perf_counter
ATTEMPTS = 4


def processor() -> str:
    """LLVM's name for it, which tells makers' families and models apart, and its vectors."""
    return f"{llvmlite.binding.get_host_cpu_name()}, {vector_bits()} bits"


def known() -> dict[str, Ratios]:
    """The kept ratios of each processor."""
    kept: dict[str, Ratios] = json.loads(KEPT.read_text())
    return kept


def nearest(kept: dict[str, Ratios], which: str) -> list[Ratios]:
    """The ratios of the kept processors that are most like another.

    What counts is the name, then the maker's series ("znver" of "znver4"), then the vectors.
    """

    def likeness(other: str) -> tuple[bool, bool, bool]:
        (name, bits), (other_name, other_bits) = which.split(", "), other.split(", ")
        series = name.rstrip("0123456789") == other_name.rstrip("0123456789")
        return name == other_name, series, bits == other_bits

    most = max(map(likeness, kept))
    return [ratios for other, ratios in kept.items() if likeness(other) == most]


def floors(kept: dict[str, Ratios], which: str) -> Ratios:
    """The least ratio of each case that passes on a processor."""
    if which in kept:
        return {name: KNOWN * ratio for name, ratio in kept[which].items()}
    near = nearest(kept, which)
    return {name: UNKNOWN * min(one[name] for one in near) for name in near[0]}


class Race:
    """The least times of some cases' two calls so far, which alternate."""

    def __init__(self, contenders: dict[str, Case]) -> None:
        self._cases = contenders
        self._least = {name: (float("inf"), float("inf")) for name in contenders}

    def run(self, name: str) -> None:
        ours, plain = self._cases[name]
        ours(), plain()  # not timed: compiles, and fills the caches
        rounds, end = 0, time.perf_counter() + SECONDS
        while rounds < ROUNDS or time.perf_counter() < end:
            best, best_plain = self._least[name]
            self._least[name] = min(best, _seconds(ours)), min(best_plain, _seconds(plain))
            rounds += 1

    def ratios(self) -> Ratios:
        return {name: float(f"{plain / ours:.3g}") for name, (ours, plain) in self._least.items()}


def _seconds(call: Call) -> float:
    start = CLOCK()
    call()
    return CLOCK() - start


def measured(contenders: dict[str, Case], runs: int = 1) -> Ratios:
    race = Race(contenders)
    for _ in range(runs):
        for name in contenders:
            race.run(name)
    return race.ratios()


def slow(contenders: dict[str, Case], least: Ratios) -> Ratios:
    """Ratios of the cases that stay below the least, however often they are measured.

    What another program does to a measurement differs from one attempt to the next; a kernel that
    has become slower stays so.
    """
    race = Race(contenders)
    left = list(contenders)
    for _ in range(ATTEMPTS):
        for name in left:
            race.run(name)
        left = [name for name in left if race.ratios()[name] < least[name]]
    return {name: race.ratios()[name] for name in left}


def twice(contenders: dict[str, Case]) -> dict[str, Case]:
    """The same cases, half as fast."""

    def doubled(ours: Call) -> Call:
        return lambda: (ours(), ours())

    return {name: (doubled(ours), plain) for name, (ours, plain) in contenders.items()}


def keep(contenders: dict[str, Case]) -> bool:
    """From many runs: by the least times of both, a busy moment changes nothing."""
    ratios = measured(contenders, runs=20)
    kept = {**(known() if KEPT.exists() else {}), processor(): ratios}
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    print(processor(), json.dumps(ratios, indent=1))
    return True


def check(contenders: dict[str, Case]) -> bool:
    least = floors(known(), processor())
    found = slow(contenders, least)
    for name, ratio in found.items():
        print(f"{name}: {ratio} of the plain loop's speed, and at least {least[name]:.3g} expected")
    return not found


def plant(contenders: dict[str, Case]) -> bool:
    """Whether calls that are made twice are seen, by the ratios that this very machine has now."""
    left = contenders
    for _ in range(ATTEMPTS):
        here = {processor(): measured(left)}
        seen = slow(twice(left), floors(here, processor()))
        left = {name: left[name] for name in left.keys() - seen.keys()}
    for name in sorted(left):
        print(f"{name}: a call made twice was not seen")
    return not left


def main(arguments: list[str]) -> bool:
    what = {(): keep, ("check",): check, ("plant",): plant}[tuple(arguments)]
    keep_freed_memory()
    ts.set_num_threads(1)
    return what(cases())


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
