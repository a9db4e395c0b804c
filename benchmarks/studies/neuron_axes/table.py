"""Tables of the study: a row for each model, and sums for each library."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

HEADINGS = ["calls", "right", "wrong, in silence", "wrong, as a guess", "not captured", "undecided"]


def model_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """A row for each model; one that did not run has its error there."""
    rows = [["model", *HEADINGS, "wrong where"]]
    for key, each in found.items():
        if "error" in each:
            rows.append([key, *["-"] * len(HEADINGS), f"not run: {each['error'][:60]}"])
        else:
            rows.append([key, *map(str, sums(each).values()), where_wrong(each)])
    return rows


def summary_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """A row for each library, and one for all: the sums of its models that ran."""
    libraries = list(dict.fromkeys(key.partition("/")[0] for key in found))
    rows = [["library", "models", *HEADINGS, "not run"]]
    for name in [*libraries, "all"]:
        models = [each for key, each in found.items() if name in ("all", key.partition("/")[0])]
        ran = [each for each in models if "error" not in each]
        totals = sum((Counter(sums(each)) for each in ran), Counter())
        numbers = [str(totals[heading]) for heading in HEADINGS]
        rows.append([name, str(len(ran)), *numbers, str(len(models) - len(ran))])
    return rows


def sums(found: Mapping[str, Any]) -> dict[str, int]:
    """The numbers of a model. An axis that is wrong is said to be a guess, or wrong in silence."""
    guesses = sum(call["origin"] == "guess" for call in found["wrong"])
    return {
        "calls": found["calls"],
        "right": sum(found["right"].values()),
        "wrong, in silence": len(found["wrong"]) - guesses,
        "wrong, as a guess": guesses,
        "not captured": len(found["raised"]),
        "undecided": sum(found["undecided"].values()),
    }


def where_wrong(found: Mapping[str, Any]) -> str:
    """The classes of the layers with a wrong axis, the most frequent first."""
    classes = Counter(call["class"] for call in found["wrong"])
    return ", ".join(f"{name} {count}" for name, count in classes.most_common(4))


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Lines with columns of equal width, all but the first and the last to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
