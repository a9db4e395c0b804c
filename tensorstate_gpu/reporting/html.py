"""HTML tables for notebooks."""

import html
from collections.abc import Iterable, Sequence


def html_table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table of plain text cells, which are escaped."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def html_summary(lines: Iterable[tuple[str, str]]) -> str:
    """Return lines of labels and values, to be shown below a table."""
    escaped = (f"{html.escape(label)}: <b>{html.escape(value)}</b>" for label, value in lines)
    return f"<p>{'<br>'.join(escaped)}</p>"
