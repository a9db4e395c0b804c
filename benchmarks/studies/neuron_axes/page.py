"""The tables of docs/neuron_axes.md, written from what the study has found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.tables import _between, _markdown

PAGE = Path(__file__).resolve().parents[3] / "docs/neuron_axes.md"
Found = Mapping[str, Any]  # by library/model


def written_page(found: Found, page: str) -> str:
    """The page with its tables made anew."""
    page = _between(page, "table: libraries", _table(library_rows(found)))
    page = _between(page, "table: not right", _table(other_rows(found)))
    return _between(page, "table: not run", _table(not_run_rows(found)))


def _table(rows: list[list[str]]) -> str:
    heading, *rest = rows
    return _markdown([heading, ["---"] + ["---:"] * (len(heading) - 2) + ["---"], *rest])


def library_rows(found: Found) -> list[list[str]]:
    """A row for each library, and one for all. Each call of a layer counts once."""
    headings = [
        *("library", "models", "calls", "right", "undecided", "guess, right", "guess, wrong"),
        *("not captured", "not run", "**wrong in silence**"),
    ]
    rows = [headings]
    libraries = list(dict.fromkeys(key.partition("/")[0] for key in found))
    for name in [*libraries, "all"]:
        models = [each for key, each in found.items() if name in ("all", key.partition("/")[0])]
        ran = [each for each in models if "error" not in each]
        totals: Counter[str] = sum(map(_counts, ran), Counter())
        numbers = [totals[heading] for heading in headings[2:-2]]
        silent = totals["wrong in silence"]
        numbers = [len(ran), *numbers, len(models) - len(ran)]
        rows.append([name, *(f"{number:,}" for number in numbers), f"**{silent}**"])
    return rows


def _counts(model: Mapping[str, Any]) -> Counter[str]:
    guesses = sum(call["origin"] == "guess" for call in model["wrong"])
    guessed = model["right"].get("guess", 0)
    return Counter(
        {
            "calls": model["calls"],
            "right": sum(model["right"].values()) - guessed,
            "undecided": sum(model["undecided"].values()),
            "guess, right": guessed,
            "guess, wrong": guesses,
            "not captured": len(model["raised"]),
            "wrong in silence": len(model["wrong"]) - guesses,
        }
    )


def other_rows(found: Found) -> list[list[str]]:
    """A row for each model with calls that are not right, or right by a guess."""
    rows = [["model", "calls", "right", "the others"]]
    for key, model in sorted(found.items()):
        if "error" in model:
            continue
        counts = _counts(model)
        if counts["right"] < counts["calls"]:
            numbers = [str(counts[name]) for name in ("calls", "right")]
            rows.append([key, *numbers, "; ".join(_others(model))])
    return rows


def _others(model: Mapping[str, Any]) -> list[str]:
    """What the other calls are, each kind with its number, or with its layers."""
    said = []
    for silent, word in ((True, "**wrong in silence**"), (False, "guess, wrong")):
        calls = [call for call in model["wrong"] if (call["origin"] != "guess") == silent]
        if calls:
            said.append(f"{word}: {_classes(calls)}")
    if guessed := model["right"].get("guess", 0):
        said.append(f"guess, right: {guessed}")
    undecided: Counter[str] = Counter()
    for kind, number in model["undecided"].items():
        undecided[kind.partition(",")[0]] += number
    said += [f"undecided, {verdict}: {number}" for verdict, number in undecided.items()]
    if model["raised"]:
        said.append(f"not captured: {_classes(model['raised'])}")
    return said


def _classes(calls: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(call["class"] for call in calls)
    return ", ".join(f"{number} {name}" for name, number in counts.most_common())


def not_run_rows(found: Found) -> list[list[str]]:
    """A row for each model that did not run, with the first line of its error."""
    rows = [["model", "why"]]
    for key, model in sorted(found.items()):
        if "error" in model:
            lines = model["error"].replace("|", "/").splitlines()
            rows.append([key, lines[0][:160].strip()])
    return rows
