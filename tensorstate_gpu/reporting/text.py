"""Tables, numbers and names as plain text."""

from collections.abc import Sequence


def text_table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows below headings, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def size(count: int | None) -> str:
    """Bytes, as people read them."""
    if count is None:
        return "unknown"
    if count < 1000:
        return f"{count} bytes"
    amount, units = count / 1000, ["kB", "MB", "GB", "TB", "PB"]
    while amount >= 999.95 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.1f} {units[0]}"


def percent(share: float) -> str:
    """A share of 1, in percent."""
    return f"{100 * share:.1f} %"


def number(value: int | None) -> str:
    """A number with commas; a dash for none."""
    return "-" if value is None else f"{value:,}"


def several(count: int, what: str) -> str:
    """A number with its noun."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def plain(name: str) -> str:
    """A name as it is, if it stays within its line."""
    return name if name.isprintable() else repr(name)


def one_line(text: str) -> str:
    """A message without line ends."""
    return " ".join(text.splitlines())
