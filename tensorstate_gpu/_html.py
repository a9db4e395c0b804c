"""What notebooks show: tables of escaped text, and small bars, readable on light and on dark."""

import html
from collections.abc import Iterable, Sequence

_WIDTH = 120  # of a bar, in pixels


def html_table(
    headings: Iterable[str], rows: Iterable[Sequence[str]], bars: Sequence[str] = ()
) -> str:
    """Return an HTML table of plain text cells, which are escaped.

    ``bars``: for each row, what html_bar() returned, as a last column.
    """
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    if bars:
        head += "<th></th>"
        cells = [f"{row}<td>{bar}</td>" for row, bar in zip(cells, bars, strict=True)]
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table><tr>{head}</tr>{body}</table>"


def html_summary(lines: Iterable[tuple[str, str]]) -> str:
    """Return lines of labels and values, to be shown below a table."""
    escaped = (f"{html.escape(label)}: <b>{html.escape(value)}</b>" for label, value in lines)
    return f"<p>{'<br>'.join(escaped)}</p>"


def html_bar(share: float, limits: tuple[float, float] | None = None, dashed: bool = False) -> str:
    """Return a bar from 0 to a share of 1, with a line between limits; dashed for bounds only.

    Its colour is that of the text around it.
    """
    line = "" if limits is None else _line(*limits, dashed)
    return (
        f'<svg width="{_WIDTH}" height="14" role="img" aria-label="{100 * share:.1f} %">'
        f'<rect width="{_WIDTH}" height="14" fill="currentColor" fill-opacity="0.1"></rect>'
        f'<rect width="{_at(share)}" height="14" fill="currentColor" fill-opacity="0.4"></rect>'
        f"{line}</svg>"
    )


def _line(lower: float, upper: float, dashed: bool) -> str:
    dashes = ' stroke-dasharray="3 2"' if dashed else ""
    return (
        f'<line x1="{_at(lower)}" x2="{_at(upper)}" y1="7" y2="7" stroke="currentColor" '
        f'stroke-width="2"{dashes}></line>'
    )


def _at(share: float) -> str:
    return f"{_WIDTH * share:.1f}"
