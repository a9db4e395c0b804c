"""Ratios from timings, and the tables of docs/performance.md.

``python -m benchmarks.harness.tables`` writes the results in benchmarks/results/ into the page,
between its markers.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.harness.ratios import Spread, fastest, rate, ratios
from benchmarks.harness.targets import target_rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results/cpu.json"
PAGE = ROOT / "docs/performance.md"


def cells(name: str, case: dict[str, Any]) -> list[str]:
    """A row of the table: case, rate, ratio to the best rival, share of the limit."""
    row = [name, f"{rate(case):.3g} {case['unit']}"]
    rival, limit = fastest(case, "rival"), fastest(case, "limit")
    row.append("-" if rival is None else f"{_spread(ratios(case, rival))} {rival[7:]}")
    row.append("-" if limit is None else f"{_spread(ratios(case, limit))} {limit[7:]}")
    return row


def capture_cells(name: str, case: dict[str, Any]) -> list[str]:
    """A row of the table of overheads: how much longer than bare each way takes."""
    ways = [way for way in case["seconds"] if way != "bare"]
    return [name, *(_overhead(ratios(case, way, "bare")) for way in ways)]


def within_cells(name: str, case: dict[str, Any]) -> list[str]:
    """A row of the table of our hooks' own time: ms and share of the pass without them."""
    row = [name]
    for keep in ("states", "counts"):
        total, hooks, packing = case["within"][keep]
        share = 100 * hooks / (total - hooks)
        row += [f"{1000 * hooks:.2f} ms, {share:.1f} %", f"{1000 * packing:.2f} ms"]
    return row


def thread_cells(name: str, case: dict[str, Any]) -> list[str]:
    return [name, _spread(ratios(case, "one thread", "all threads"))]


def _spread(values: Spread) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f}..{values[2]:.2f})"


def _overhead(values: Spread) -> str:
    median, least, most = (100 * (value - 1) for value in values)
    return f"{median:+.1f} % ({least:+.1f}..{most:+.1f})"


def summary_line(name: str, case: dict[str, Any]) -> str:
    """A case on the screen."""
    if "bare" in case["seconds"]:
        ways = [way for way in case["seconds"] if way != "bare"]
        return f"{name}  " + "  ".join(
            f"{way} {cell}" for way, cell in zip(ways, capture_cells(name, case)[1:], strict=True)
        )
    if "one thread" in case["seconds"]:
        return f"{name:<44} x one thread {thread_cells(name, case)[1]}"
    what, speed, rival, limit = cells(name, case)
    return f"{what:<44} {speed:>16}   x rival {rival:<36} x limit {limit}"


OVERHEADS = ["forward pass", 'keep="states"', 'keep="counts"']
OVERHEADS += ["one thread reads", "naive hook", "cached activations"]
WITHIN = ["forward pass", "hooks, states", "of it packing", "hooks, counts", "of it packing"]
MEASURES = ["case", "rate", "x best rival (range)", "x limit (range)"]
# Kind of table -> its headings, and how a case becomes a row; "capture, within" is a table of the
# cases named capture[...].
TABLES = {
    **dict.fromkeys(
        (
            *("pack", "unpack", "popcount", "count", "count_trained_lenet", "merge", "sort"),
            *("rates", "cofiring"),
        ),
        (MEASURES, cells),
    ),
    "capture": (OVERHEADS, capture_cells),
    "capture, within": (WITHIN, within_cells),
    "threads": (["case", "x one thread (range)"], thread_cells),
}


def table(kind: str, cases: dict[str, Any]) -> str:
    """The Markdown table of a kind of case."""
    headings, row = TABLES[kind]
    kind = kind.partition(",")[0]
    named = {
        name.removeprefix(kind)[1:-1]: case
        for name, case in cases.items()
        if name.partition("[")[0] == kind
    }
    rows = (row(name, case) for name, case in named.items())
    return _markdown([headings, ["---"] * len(headings), *rows])


def write_page(results: dict[str, Any], page: str) -> str:
    """The page with what stands between its markers, ``<!-- table: KIND -->``, made anew."""
    cases = results["cases"]
    aims = [["aim", "bound", "cases that meet it", "worst"], ["---"] * 4, *target_rows(cases)]
    page = _between(page, "table: targets", _markdown(aims))
    for kind in TABLES:
        page = _between(page, f"table: {kind}", table(kind, cases))
    machine = ", ".join(f"{what} {words}" for what, words in results["machine"].items())
    return _between(page, "machine", machine)


def _between(page: str, marker: str, text: str) -> str:
    """Put text between ``<!-- marker -->`` and ``<!-- end: name -->``, where they are."""
    begin, end = f"<!-- {marker} -->\n", f"<!-- end: {marker.removeprefix('table: ')} -->"
    before, found, rest = page.partition(begin)
    return before + begin + text + "\n" + end + rest.partition(end)[2] if found else page


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(write_page(json.loads(RESULTS.read_text()), PAGE.read_text()))
