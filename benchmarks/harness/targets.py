"""What the project aims at on the CPU, each a bound on ratios of the benchmarks' cases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.ratios import fastest, rate, ratios

Case = dict[str, Any]
LARGE = 0.128  # GB: four times the third-level cache of the machine it was written on
# Million rows/s of TensorState 0.4, which counts by sorting, on 5.76 M x 3 and 1 M x 64 bytes.
REFERENCE_SORT = {
    "sort[zipf-5.76 M x 20]": 14.5,
    "sort[zipf-1 M x 512]": 2.4,
    "sort[all distinct-1 M x 512]": 9.8,
}


@dataclass(frozen=True)
class Target:
    """``measure`` gives a case's figure, or None where the target does not speak of it."""

    words: str
    bound: float
    measure: Callable[[str, Case], float | None]
    at_least: bool = True

    def worst(self, cases: dict[str, Case]) -> tuple[float, str, int, int]:
        """The worst figure and its case; how many cases meet the target, and of how many."""
        figures = {name: self.measure(name, case) for name, case in cases.items()}
        known = {name: figure for name, figure in figures.items() if figure is not None}
        sign = 1 if self.at_least else -1
        name = min(known, key=lambda name: sign * known[name])
        met = sum(sign * figure >= sign * self.bound for figure in known.values())
        return known[name], name, met, len(known)


def _to(kind: str, case: Case) -> float | None:
    other = fastest(case, kind)
    return None if other is None else ratios(case, other)[0]


def _pack(name: str, case: Case, *, rows: bool, large: bool) -> bool:
    return (
        name.startswith("pack[")
        and (name.count(" x ") == 1) == rows
        and (case["amount"] >= LARGE) == large
    )


def _counted_bytes(name: str) -> int | None:
    """The row bytes of a counting case; None for others."""
    if name.startswith("count_trained_lenet"):
        return {"conv_1": 3, "conv_2": 7, "conv_3": 13}[name.partition("[")[2][:-1]]
    if not name.startswith("count["):
        return None
    return -(-int(name.partition(" x ")[2].partition("-")[0]) // 8)


def _count(name: str, case: Case, wide: bool) -> float | None:
    width = _counted_bytes(name)
    return None if width is None or (width > 8) != wide else _to("rival", case)


def _overhead(name: str, case: Case, keep: str) -> float | None:
    return ratios(case, keep, "bare")[0] - 1 if name.startswith("capture[") else None


TARGETS = [
    Target(
        "pack rows of 128 MB and more: share of the limit",
        0.9,
        lambda n, c: _to("limit", c) if _pack(n, c, rows=True, large=True) else None,
    ),
    Target(
        "pack NCHW of 128 MB and more: share of the limit",
        0.8,
        lambda n, c: _to("limit", c) if _pack(n, c, rows=False, large=True) else None,
    ),
    Target(
        "pack anything: times the best rival",
        1,
        lambda n, c: _to("rival", c) if n.startswith("pack[") else None,
    ),
    Target(
        "unpack: share of the limit",
        0.8,
        lambda n, c: _to("limit", c) if n.startswith("unpack[") else None,
    ),
    Target(
        "count rows of up to 8 bytes: times the best rival", 1.5, lambda n, c: _count(n, c, False)
    ),
    Target("count wider rows: times the best rival", 2, lambda n, c: _count(n, c, True)),
    Target(
        "sort: times TensorState 0.4 (quoted)",
        5,
        lambda n, c: rate(c) / REFERENCE_SORT[n] if n in REFERENCE_SORT else None,
    ),
    Target(
        "firing rates: times unpacking and a product or a sum",
        5,
        lambda n, c: _to("rival", c) if n.startswith("rates[") else None,
    ),
    Target(
        "co-firing: times unpacking and a product",
        2,
        lambda n, c: _to("rival", c) if n.startswith("cofiring[") else None,
    ),
    Target(
        "two threads: times one",
        1.8,
        lambda n, c: (
            ratios(c, "one thread", "all threads")[0]
            if n.startswith("threads[") and "limit" not in n
            else None
        ),
    ),
    Target('capture, keep="states": overhead', 0.05, lambda n, c: _overhead(n, c, "states"), False),
    Target('capture, keep="counts": overhead', 0.10, lambda n, c: _overhead(n, c, "counts"), False),
]


def target_rows(cases: dict[str, Case]) -> list[list[str]]:
    """Rows of the table: aim, bound, cases that meet it, the worst of them."""
    rows = []
    for target in TARGETS:
        figure, name, met, of = target.worst(cases)
        sign = ">=" if target.at_least else "<="
        state = "met" if met == of else f"**{met} of {of}**"
        rows.append([target.words, f"{sign} {target.bound:g}", state, f"{figure:.2f}: {name}"])
    return rows
