"""The tables and the picture of docs/statistics.md, written from what the study has found."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness.tables import _between, _markdown
from benchmarks.studies.intervals.study import LEAST_PRINTED

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE, PICTURE = DOCS / "statistics.md", DOCS / "intervals.svg"

Cell = Mapping[str, float | None]
Found = Mapping[str, Sequence[Cell]]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 360, 60, 40, 20, 50


def write(found: Found) -> None:
    """Write all of it."""
    PAGE.write_text(written_page(found, PAGE.read_text()))
    PICTURE.write_text(picture(found["cells"]))


def written_page(found: Found, page: str) -> str:
    """The page with its tables made anew."""
    for name, rows in ("intervals", table(found["cells"])), ("limits", limits(found["limits"])):
        heading, *others = rows
        rule = ["---"] + ["---:"] * (len(heading) - 1)
        page = _between(page, f"table: {name}", _markdown([heading, rule, *others]))
    return page


def with_intervals(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of which samples have an interval."""
    return [cell for cell in cells if cell["printed"]]


def table(cells: Sequence[Cell]) -> list[list[str]]:
    """A row for each source: the worst of its sizes."""
    rows = [
        [
            *("source", "truth", "design effect", "intervals", "**interval holds**"),
            *("if rows were independent", "lower bound holds", "upper bound holds"),
        ]
    ]
    for source in dict.fromkeys(cell["source"] for cell in cells):
        own = [cell for cell in cells if cell["source"] == source]
        shown = with_intervals(own)
        drawn = sum(round(cell["printed"] * cell["samples"]) for cell in own)
        rows.append(
            [
                str(source),
                f"{own[0]['truth']:.2f} bits",
                _most_effect(own),
                f"{drawn:,} of {sum(cell['samples'] for cell in own):,}",
                f"**{_least(shown, 'held')}**",
                _least(shown, "rows_held"),
                _least(own, "above_lower"),
                _least(own, "below_upper"),
            ]
        )
    return rows


def limits(cells: Sequence[Cell]) -> list[list[str]]:
    """A row for each source whose intervals do not hold: the worst of its sizes."""
    rows = [["source", "inputs", "intervals", "interval holds", "with 3 (n - H) / M added"]]
    for source in dict.fromkeys(cell["source"] for cell in cells):
        own = [cell for cell in cells if cell["source"] == source]
        enough = [cell for cell in own if cell["printed"] >= LEAST_PRINTED]
        worst = min(enough, key=lambda cell: cell["held"])
        shares = [f"{100 * worst[name]:.0f} %" for name in ("held", "held_with_more")]
        of_all = f"{worst['printed']} of {worst['samples']}"
        rows.append([str(source), f"{worst['instances']:,}", of_all, *shares])
    return rows


def _most_effect(cells: Sequence[Cell]) -> str:
    """The largest design effect; what states tell about labels has none."""
    most = max(cell["design_effect"] for cell in cells)
    return f"{most:.1f}" if most else "-"


def _least(cells: Sequence[Cell], name: str) -> str:
    return f"{100 * min(cell[name] for cell in cells):.0f} %" if cells else "-"


def picture(cells: Sequence[Cell]) -> str:
    """How often intervals hold by the coverage of the sample, as SVG."""
    shown = with_intervals(cells)
    marks = [
        *(_cross(_x(cell["coverage"]), _y(cell["rows_held"])) for cell in shown),
        *(_dot(_x(cell["coverage"]), _y(cell["held"])) for cell in shown),
    ]
    across = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(s)}" y2="{_y(s)}"/>' for s in _SHARES
    ]
    side = [_text(LEFT - 8, _y(s) + 4, f"{100 * s:.0f} %", "end") for s in _SHARES]
    below = [_text(_x(c), HEIGHT - BOTTOM + 18, f"{c:.2f}", "middle") for c in _COVERAGES]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13" fill="#333">',
        "<title>How often 95 % intervals contain the truth</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        '<g stroke="#ddd">',
        *across,
        "</g>",
        f'<g stroke="#333" stroke-dasharray="5 4">{_line(_y(0.95))}</g>',
        *side,
        *below,
        *marks,
        _text((LEFT + WIDTH) / 2, HEIGHT - 10, "coverage of the sample", "middle"),
        _dot(LEFT + 8, 20),
        _text(LEFT + 20, 24, "95 % interval of an Estimate", "start"),
        _cross(LEFT + 258, 20),
        _text(LEFT + 270, 24, "an error as if rows were independent", "start"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


_SHARES = (0, 0.25, 0.5, 0.75, 1)
_COVERAGES = (0.9, 0.92, 0.94, 0.96, 0.98, 1)


def _x(coverage: float) -> float:
    return round(LEFT + (coverage - 0.9) / 0.1 * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _line(y: float) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'


def _dot(x: float, y: float) -> str:
    return f'<circle cx="{x}" cy="{y}" r="4.5" fill="#1b6ca8" fill-opacity="0.8"/>'


def _cross(x: float, y: float) -> str:
    arms = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path d="{arms}" stroke="#c0392b" stroke-width="1.8" fill="none"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
