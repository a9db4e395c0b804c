"""Plain text: tables, numbers and names."""

import math
import unicodedata
from collections.abc import Sequence


def text_table(rows: Sequence[tuple[str, ...]], width: int | None = None) -> str:
    """Return a table whose first row is the headings; the first column is left-aligned.

    ``width``: of a terminal, in columns. A table that is wider becomes several, each of which
    begins with the first column. If that would take more than half of the width, as paths of
    layers do, long names have a line of their own, above the rest of their rows.
    """
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    if width is not None and widths[0] > width // 2 and sum(widths) + 2 * len(widths[1:]) > width:
        widths[0] = max(_columns(rows[0][0]), width // 4)
    return "\n\n".join(_part(rows, widths, places) for places in _places(widths, width))


def _places(widths: Sequence[int], most: int | None) -> list[list[int]]:
    """Return which columns stand side by side: the first one, and as many others as have room."""
    parts, used = [[0]], widths[0]
    for place, width in enumerate(widths[1:], 1):
        if most is not None and used + 2 + width > most and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(place)
        used += 2 + width
    return parts


def _part(rows: Sequence[tuple[str, ...]], widths: Sequence[int], places: Sequence[int]) -> str:
    first, *others = places
    lines: list[list[str]] = []
    for row in rows:
        name = row[first]
        if _columns(name) > widths[first]:
            lines.append([name])
            name = ""
        cells = [_right_aligned(row[place], widths[place]) for place in others]
        lines.append([_left_aligned(name, widths[first]), *cells])
    lines.insert(1, ["-" * widths[place] for place in places])
    return "\n".join("  ".join(line).rstrip() for line in lines)


def text_list(rows: Sequence[tuple[str, str]]) -> str:
    """Return lines of a label and a text, which begins in the same column in all of them."""
    width = max(_columns(label) for label, _ in rows)
    return "\n".join(f"{_left_aligned(label, width)}  {text}" for label, text in rows)


def _left_aligned(text: str, width: int) -> str:
    """Return a text with spaces behind it, so that it takes ``width`` columns of a terminal."""
    return text + " " * (width - _columns(text))


def _right_aligned(text: str, width: int) -> str:
    return " " * (width - _columns(text)) + text


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese characters take two each."""
    if text.isascii():
        return len(text)
    return sum(map(_character_columns, text))


def _character_columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # marks above and below the one before
        return 0
    if "\u1160" <= character <= "\u11ff":  # drawn within the Korean letter before it
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def format_bytes(count: int | None) -> str:
    """Return a number of bytes as readable text, such as "1.5 MB"."""
    if count is None:
        return "unknown"
    if count < 1000:
        return f"{count} bytes"
    amount, units = count / 1000, ["kB", "MB", "GB", "TB", "PB"]
    while amount >= 999.95 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.1f} {units[0]}"


def format_percent(share: float) -> str:
    """Return a fraction as a percentage. Only 0 is shown as 0: a constant layer has it.

    >>> format_percent(0.1234), format_percent(0.0000234), format_percent(2e-20), format_percent(0)
    ('12.3 %', '0.002 %', '2e-18 %', '0.0 %')
    """
    return f"{_percent(share)} %"


def format_part(share: float) -> str:
    """Return how large a part is as a percentage, of which only all of it is shown as 100 %.

    >>> [format_part(share) for share in (0.1234, 0.9995, 0.9997, 1 - 1e-12, 1)]
    ['12.3 %', '99.95 %', '99.97 %', 'nearly 100 %', '100.0 %']
    """
    shown = format_percent(share)
    if share == 1 or shown != format_percent(1):
        return shown
    decimals = math.ceil(-math.log10(100 * (1 - share)))
    return f"{100 * share:.{decimals}f} %" if decimals <= _MOST_DECIMALS else "nearly 100 %"


def format_bits(bits: float) -> str:
    """Return bits with three decimals, or as many as it takes. Only 0 is shown as 0.

    >>> format_bits(6.6541), format_bits(0.000012), format_bits(3e-9), format_bits(0)
    ('6.654 bits', '0.00001 bits', '3e-09 bits', '0.000 bits')
    """
    decimals = decimals_of(bits, 3)
    shown = f"{bits:.{decimals}f}" if decimals <= _MOST_DECIMALS else f"{bits:.0e}"
    return f"{shown} bits"


def format_range(low: float, high: float) -> str:
    """Return a range of fractions as percentages.

    >>> format_range(0.1, 0.123)
    '10.0 - 12.3 %'
    """
    return f"{_percent(low)} - {_percent(high)} %"


def _percent(share: float) -> str:
    percent = 100 * share
    decimals = decimals_of(percent, 1)
    return f"{percent:.{decimals}f}" if decimals <= _MOST_DECIMALS else f"{percent:.0e}"


def rounded_percent(share: float) -> float:
    """Return a fraction as a percentage for a chart: with two decimals, or more as above."""
    percent = 100 * share
    return round(percent, decimals_of(percent, 2))


def decimals_of(number: float, least: int) -> int:
    """Return with how many decimals, at least so many, a number above 0 is not shown as 0."""
    is_small = 0 < number < 0.5 / 10**least
    return math.ceil(-math.log10(number)) if is_small else least


_MOST_DECIMALS = 6  # of a number, before it is written as a power of ten


def format_number(value: int | None) -> str:
    """Return a number with thousands separators; a dash for None."""
    return "-" if value is None else f"{value:,}"


def with_noun(count: int, what: str) -> str:
    """Return a number with its noun, such as "3 layers"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def printable_name(name: str) -> str:
    """Return a name unchanged, or its repr if it has unprintable characters."""
    return name if name.isprintable() else repr(name)


def listed_names(names: Sequence[str]) -> str:
    """Return names in a row; of many, the first ones and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(printable_name, names[:_MOST_NAMES])) + more


_MOST_NAMES = 12


def shared_lines(lines: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return lines (name, text) with one for all names of a text that many names have.

    Of a thousand layers that never fire, nobody reads a thousand lines.

    >>> shared_lines([("a", "never fires"), ("b", "never fires")])
    [('a', 'never fires'), ('b', 'never fires')]
    >>> shared_lines([(f"a{i}", "never fires") for i in range(20)])[0][0]
    '20 layers, each'
    """
    names: dict[str, list[str]] = {}
    for name, text in lines:
        names.setdefault(text, []).append(name)
    shared = {text for text, having in names.items() if len(having) > _MOST_NAMES}
    told: list[tuple[str, str]] = []
    for name, text in lines:
        if text not in shared:
            told.append((printable_name(name), text))
        elif name == names[text][0]:
            having = names[text]
            told.append((f"{len(having):,} layers, each", f"{text}: {listed_names(having)}"))
    return told


def one_line(text: str) -> str:
    r"""Join the lines of a message, and escape characters that are unprintable.

    >>> one_line("two\nlines, \x1b[31m")
    'two lines, \\x1b[31m'
    """
    joined = " ".join(text.splitlines())
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in joined)
