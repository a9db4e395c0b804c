"""Ratios from timings, and the tables of docs/performance.md.

``python -m benchmarks.table`` writes the results that stand in benchmarks/results/ into the page,
between its markers.
"""

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/cpu.json"
PAGE = ROOT / "docs/performance.md"

Seconds = list[float | None]
Spread = tuple[float, float, float]  # median, least, most


def ratios(case: dict[str, Any], other: str) -> Spread:
    """How many times our time another's is, in the rounds in which both ran."""
    pairs = zip(case["seconds"][other], case["seconds"]["ours"], strict=True)
    values = sorted(theirs / ours for theirs, ours in pairs if theirs is not None)
    return statistics.median(values), values[0], values[-1]


def rate(case: dict[str, Any], name: str = "ours") -> float:
    """Amount per second, by the median time."""
    times = [seconds for seconds in case["seconds"][name] if seconds is not None]
    return float(case["amount"] / statistics.median(times))


def fastest(case: dict[str, Any], kind: str) -> str | None:
    """The fastest contender of a kind ("rival" or "limit"), by its median time."""
    names = [name for name in case["seconds"] if name.startswith(f"{kind}: ")]
    return max(names, key=lambda name: rate(case, name), default=None)


def cells(name: str, case: dict[str, Any]) -> list[str]:
    """A row of the table: case, rate, ratio to the best rival, share of the limit."""
    row = [name, f"{rate(case):.3g} {case['unit']}"]
    rival, limit = fastest(case, "rival"), fastest(case, "limit")
    row.append("-" if rival is None else f"{_spread(ratios(case, rival))} {rival[7:]}")
    row.append("-" if limit is None else f"{_spread(ratios(case, limit))} {limit[7:]}")
    return row


def _spread(values: Spread) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f}..{values[2]:.2f})"


def summary_line(name: str, case: dict[str, Any]) -> str:
    what, speed, rival, limit = cells(name, case)
    return f"{what:<44} {speed:>16}   x rival {rival:<36} x limit {limit}"


def table(cases: dict[str, Any]) -> str:
    """A Markdown table of cases."""
    head = ["case", "rate", "x best rival (range)", "x limit (range)"]
    rows = [head, ["---"] * len(head), *(cells(name, case) for name, case in cases.items())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write_page(results: dict[str, Any], page: str) -> str:
    """The page with the tables between its ``<!-- table: KIND -->`` markers made anew."""
    for kind in ("pack", "unpack", "popcount", "count", "merge", "sort"):
        begin, end = f"<!-- table: {kind} -->\n", f"<!-- end: {kind} -->"
        if begin not in page:
            continue
        cases = {
            name.partition("[")[2].rstrip("]"): case
            for name, case in results["cases"].items()
            if name.startswith((f"{kind}[", f"{kind}_trained"))
        }
        before, _, rest = page.partition(begin)
        page = before + begin + table(cases) + "\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    PAGE.write_text(write_page(json.loads(RESULTS.read_text()), PAGE.read_text()))
