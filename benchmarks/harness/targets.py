"""What the project aims at on the CPU, each a bound on ratios of the benchmarks' cases."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.ratios import Spread, fastest, rates, ratios

Case = dict[str, Any]
Measure = Callable[[str, Case], Spread | None]
LARGE = 0.128  # GB: four times the third-level cache of the machine it was written on
# Million rows/s of TensorState 0.4, which counts by sorting, on 5.76 M x 3 and 1 M x 64 bytes.
REFERENCE_SORT = {
    "sort[zipf-5.76 M x 20]": 14.5,
    "sort[zipf-1 M x 512]": 2.4,
    "sort[all distinct-1 M x 512]": 9.8,
}


@dataclass(frozen=True)
class Target:
    """``measure`` gives a case's ratio, or None where the target does not speak of it.

    ``tests``: what pytest's -k picks, to measure it again.
    """

    words: str
    bound: float
    tests: str
    measure: Measure
    at_least: bool = True

    @property
    def bound_in_words(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self._shown(self.bound)}"

    def outcome(self, cases: dict[str, Case]) -> str:
        """The median case, how many cases meet the target, and the worst with its spread."""
        figures = {name: self.measure(name, case) for name, case in cases.items()}
        known = {name: figure for name, figure in figures.items() if figure is not None}
        if not known:
            return "not run"
        sign = 1 if self.at_least else -1
        name = min(known, key=lambda name: sign * known[name][0])
        met = sum(sign * figure[0] >= sign * self.bound for figure in known.values())
        state = "met" if met == len(known) else f"**{met} of {len(known)} meet it**"
        worst, low, high = map(self._shown, known[name])
        middle = self._shown(statistics.median(figure[0] for figure in known.values()))
        return f"{middle}, {state}; worst {worst} ({low} to {high}), {_case_of(name)}"

    def _shown(self, figure: float) -> str:
        return f"{figure:.2f}" if self.at_least else f"{100 * figure:+.0f} %"


def _case_of(name: str) -> str:
    """What stands in the brackets of a test's name."""
    return name.partition("[")[2][:-1]


def _to(kind: str, case: Case) -> Spread | None:
    other = fastest(case, kind)
    return None if other is None else ratios(case, other)


def _of(tests: str, kind: str) -> Measure:
    """The ratio of the fastest of a kind, for the cases of a test."""
    return lambda name, case: _to(kind, case) if name.startswith(f"{tests}[") else None


def _large_packing(axes: int) -> Measure:
    """The share of the limit for arrays of more than LARGE with so many axes."""

    def measure(name: str, case: Case) -> Spread | None:
        fits = name.startswith("pack[") and name.count(" x ") == axes - 1
        return _to("limit", case) if fits and case["amount"] >= LARGE else None

    return measure


def _counted_bytes(name: str) -> int | None:
    """The row bytes of a counting case; None for others."""
    if name.startswith("count_trained_lenet"):
        return {"conv_1": 3, "conv_2": 7, "conv_3": 13}[_case_of(name)]
    if not name.startswith("count["):
        return None
    return -(-int(name.partition(" x ")[2].partition("-")[0]) // 8)


def _counting(*, wide: bool) -> Measure:
    def measure(name: str, case: Case) -> Spread | None:
        width = _counted_bytes(name)
        return None if width is None or (width > 8) != wide else _to("rival", case)

    return measure


def _sorting(name: str, case: Case) -> Spread | None:
    if name not in REFERENCE_SORT:
        return None
    middle, low, high = (rate / REFERENCE_SORT[name] for rate in rates(case))
    return middle, low, high


def _threads(name: str, case: Case) -> Spread | None:
    is_ours = name.startswith("threads[") and "limit" not in name
    return ratios(case, "one thread", "all threads") if is_ours else None


def _overhead(keep: str) -> Measure:
    def measure(name: str, case: Case) -> Spread | None:
        if not name.startswith("capture["):
            return None
        middle, low, high = (ratio - 1 for ratio in ratios(case, keep, "bare"))
        return middle, low, high

    return measure


TARGETS = [
    Target(
        'a forward pass captured with `keep="states"` takes longer by',
        0.05,
        "test_capture",
        _overhead("states"),
        at_least=False,
    ),
    Target(
        'the same with `keep="counts"`', 0.05, "test_capture", _overhead("counts"), at_least=False
    ),
    Target("packing: times the best rival", 1, "test_pack", _of("pack", "rival")),
    Target(
        "packing rows of 128 MB and more: share of the speed of reading",
        0.9,
        "test_pack",
        _large_packing(axes=2),
    ),
    Target("the same for NCHW", 0.8, "test_pack", _large_packing(axes=4)),
    Target("unpacking: share of the speed of writing", 0.8, "test_unpack", _of("unpack", "limit")),
    Target(
        "counting rows of up to 8 bytes: times the best rival",
        1.5,
        "test_count",
        _counting(wide=False),
    ),
    Target("counting wider rows: times the best rival", 2, "test_count", _counting(wide=True)),
    Target("sorting: times TensorState 0.4 (quoted)", 5, "test_sort", _sorting),
    Target(
        "firing rates: times unpacking and a product or a sum",
        5,
        "test_rates",
        _of("rates", "rival"),
    ),
    Target(
        "co-firing: times unpacking and a product", 2, "test_cofiring", _of("cofiring", "rival")
    ),
    Target("two threads: times one", 1.8, "test_threads", _threads),
]
