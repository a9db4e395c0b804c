"""Ratios from timings, and the tables of docs/performance.md.

``python -m benchmarks.harness.tables`` writes the results in benchmarks/results/ into the page,
between its markers. Where several processors have results, each has its own columns.
"""

from pathlib import Path
from typing import Any

from benchmarks.harness.processors import (
    Results,
    all_results,
    code_name,
    heading,
    machines_of,
    makers_without_results,
)
from benchmarks.harness.ratios import Spread, fastest, rate, ratios
from benchmarks.harness.targets import TARGETS

PAGE = Path(__file__).resolve().parents[2] / "docs/performance.md"


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
MEASURES = ["case", "rate", "x best rival", "x limit"]
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
    "threads": (["case", "x one thread"], thread_cells),
}


def table(kind: str, kept: list[Results]) -> str:
    """The Markdown table of a kind of case, with columns of each processor."""
    headings, row = TABLES[kind]
    test = kind.partition(",")[0]
    names = dict.fromkeys(name for one in kept for name in one["cases"])
    first, *measures = headings
    if len(kept) == 1:
        rows = [headings]
    else:
        rows = [[first, *(f"{code_name(one)}: {words}" for one in kept for words in measures)]]
    rows.append(["---"] * len(rows[0]))
    for name in names:
        of, _, case = name.partition("[")
        if of == test:
            columns = [
                row(name, one["cases"][name])[1:] if name in one["cases"] else ["-"] * len(measures)
                for one in kept
            ]
            rows.append([case[:-1], *(cell for cells in columns for cell in cells)])
    return _markdown(rows)


def targets_table(kept: list[Results]) -> str:
    """Each aim with its outcome on each processor, and the command that measures it again."""
    absent = makers_without_results(kept)
    headings = ["aim", "bound", *map(heading, kept), *absent, 'make bench ARGS="-k ..."']
    rows = [
        [
            *(target.words, target.bound_in_words),
            *(target.outcome(one["cases"]) for one in kept),
            *["not run"] * len(absent),
            f"`{target.tests}`",
        ]
        for target in TARGETS
    ]
    return _markdown([headings, ["---"] * len(headings), *rows])


def machines(kept: list[Results]) -> str:
    """What ran the benchmarks, a line for each machine and its versions of libraries."""
    return "\n".join(
        "- " + ", ".join(f"{what} {words}" for what, words in machine.items())
        for one in kept
        for machine in machines_of(one)
    )


def write_page(kept: list[Results], page: str) -> str:
    """The page with what stands between its markers, ``<!-- table: KIND -->``, made anew."""
    page = _between(page, "table: targets", targets_table(kept))
    for kind in TABLES:
        page = _between(page, f"table: {kind}", table(kind, kept))
    return _between(page, "machine", machines(kept))


def _between(page: str, marker: str, text: str) -> str:
    """Put text between ``<!-- marker -->`` and ``<!-- end: name -->``, where they are."""
    begin, end = f"<!-- {marker} -->\n", f"<!-- end: {marker.removeprefix('table: ')} -->"
    before, found, rest = page.partition(begin)
    return before + begin + text + "\n" + end + rest.partition(end)[2] if found else page


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(write_page(all_results(), PAGE.read_text()))
