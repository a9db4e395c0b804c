"""What all figures share: new axes, colours that can be told apart, and tables as arguments."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import is_iterable
from tensorstate_gpu.reporting.layer_names import find_name, layer_labels
from tensorstate_gpu.reporting.text import printable_name
from tensorstate_gpu.reporting.tidy_tables import Columns, HasMeasures, what_came

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

# Okabe and Ito, "Color universal design" (2008): colours that the colour-blind can tell apart.
# Lines differ in their dashes, too, so that they can be told apart in grey.
BLUE, ORANGE, GREEN, PURPLE, SKY, RED = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"),
)
GREY = "#767676"
_MOST_NAMES, _MOST_LINES, _LONGEST_NAME = 100, 12, 30  # along an axis, in a legend; characters
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


class Table(Protocol):
    """Columns by name, such as a pandas frame or an Arrow table."""

    def __getitem__(self, name: str, /) -> object: ...


Layers = str | int | Sequence[str | int] | None


class LineStyle(TypedDict):
    color: str
    linestyle: str | tuple[int, tuple[int, ...]]


def columns_of(given: HasMeasures | Table, of_report: Callable[[HasMeasures], Columns]) -> Table:
    """Return the table that a figure shows: that of a report, or the one that was given.

    Raises TypeError if it is neither.
    """
    if isinstance(given, HasMeasures):
        return of_report(given)
    if not _is_table(given):
        raise TypeError(f"a Report or a table is needed, got {what_came(given)}")
    return given


def table_of(given: Any, of_other: Callable[[Any], Columns]) -> Table:
    """Return the table that was given, or that of what else was given."""
    return cast("Table", given) if _is_table(given) else of_other(given)


def _is_table(given: object) -> bool:
    """Return whether this is a frame, an Arrow table, or a mapping of columns."""
    is_run = hasattr(given, "efficiency_layers")  # a mapping of layers, as a Store is
    return not is_run and (hasattr(given, "columns") or isinstance(given, Mapping))


def has_column(table: Table, name: str) -> bool:
    """Return whether a table has a column of this name."""
    return name in _names_of(table)


def _names_of(table: Table) -> Collection[str]:
    """Return the names of the columns: libraries raise different errors for one that is not there.

    ``columns`` of an Arrow table are the columns themselves.
    """
    if isinstance(table, Mapping):
        return table.keys()
    known: Any = table
    names: Iterable[object] = getattr(known, "column_names", None) or known.columns
    return {str(name) for name in names}


def column(table: Table, name: str) -> NDArray[np.generic]:
    """Return a column. Raises ValueError if the table has none of that name."""
    if not has_column(table, name):
        raise ValueError(f"the table has no column {name!r}")
    return np.asarray(table[name])


def integers(table: Table, name: str) -> NDArray[np.int64]:
    """Return a column of whole numbers."""
    return column(table, name).astype(np.int64)


def floats(table: Table, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, in which None is NaN."""
    return column(table, name).astype(np.float64)


def square_of(
    table: Table, one: str, other: str, value: str, rows: NDArray[np.bool_] | None = None
) -> tuple[list[Any], NDArray[np.float64]]:
    """Return a column of a table with a row for each two things as a matrix, and what they are.

    They are in the order in which the table names them; what it does not have is NaN. ``rows``:
    which of the table; all by default. Raises ValueError if there is none.
    """
    chosen = slice(None) if rows is None else rows
    ones, others = (column(table, name)[chosen].tolist() for name in (one, other))
    if not ones:
        raise ValueError("the table has no rows")
    places = {name: place for place, name in enumerate(dict.fromkeys([*ones, *others]))}
    matrix = np.full((len(places), len(places)), np.nan)
    where = [places[name] for name in ones], [places[name] for name in others]
    matrix[where] = floats(table, value)[chosen]
    return [*places], matrix


def by_layer(table: Table, layers: Layers) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Return each layer, or each of those named, and where its rows are.

    A layer is named as in the table, or by its own name ("conv" for "conv_post_states"), or by its
    place among those of the table. Raises ValueError for one that the table has not, for no layers,
    and for a table without rows; TypeError for what is no name.
    """
    names = column(table, "layer").astype(str)
    known = list(dict.fromkeys(names.tolist()))
    if not known:
        raise ValueError("the table has no rows")
    wanted = known if layers is None else _wanted(layers)
    chosen = [_known_name(name, known) for name in wanted]
    return ((name, names == name) for name in chosen)


def _wanted(layers: str | int | Sequence[str | int]) -> Sequence[str | int]:
    if isinstance(layers, str | int):
        return [layers]
    if not is_iterable(layers):
        advice = "; axes are given as ax=" if hasattr(layers, "imshow") else ""
        raise TypeError(
            f"layers must be a name or a list of names, got {type(layers).__name__}{advice}"
        )
    if wanted := list(layers):
        return wanted
    raise ValueError("layers is empty; at least one layer is needed")


def _known_name(wanted: str | int, known: Sequence[str]) -> str:
    """Return the name of the states that are called this, or whose layer is."""
    try:
        return find_name(dict.fromkeys(known, ()), wanted, of="the table")
    except KeyError:
        raise ValueError(f"no layer {wanted!r}; there are {', '.join(known)}") from None


def new_axes(ax: Axes | None, width: float = 7, height: float = 4) -> Axes:
    """Return the axes that were given, or those of a new figure of this size in inches.

    Raises TypeError if no axes were given, but something else.
    """
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise TypeError(f"ax must be axes of matplotlib, got {type(ax).__name__} {ax!r}")
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"figures need {error.name or 'matplotlib'}: pip install matplotlib"
        ) from error
    _, made = plt.subplots(figsize=(width, height), layout="constrained")
    return made


def line_styles() -> Iterator[LineStyle]:
    """Return the look of each line, by colours and dashes that repeat only together."""
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
    for turn in itertools.count():
        for place, colour in enumerate(colours):
            yield {"color": colour, "linestyle": _DASHES[(place + turn) % len(_DASHES)]}


def plain(ax: Axes, grid: Literal["both", "x"]) -> None:
    """Leave out the frame, and draw a light grid along an axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)


def say_of_what(ax: Axes, layer: object, *more: str) -> None:
    """Write above axes which layer they show, by its name or if it has one, and what else."""
    name = layer if isinstance(layer, str) else getattr(layer, "name", None)
    known = shown_layers([name]).values() if isinstance(name, str) else ()
    ax.set_title(", ".join([*known, *more]), size="medium").set_parse_math(False)


def name_layers(ax: Axes, names: Sequence[str]) -> None:
    """Write names of layers along the vertical axis, as they are: a $ begins no formula.

    Of more than a hundred, one every so often.
    """
    shown = shown_layers(names)
    places = _some(names)
    ax.set_yticks(places, [shown[names[place]] for place in places])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)


def name_both_axes(ax: Axes, names: Sequence[str], most: int = _MOST_NAMES) -> None:
    """Write names along both axes of a square image, as name_layers() does."""
    places = _some(names, most)
    whole = _shortened(list(map(printable_name, names)))
    shown = [whole[place] for place in places]
    is_close = max(map(len, shown)) * len(shown) > 30
    ax.set_xticks(places, shown, rotation=90 if is_close else 0)
    ax.set_yticks(places, shown)
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)


def _some(names: Sequence[str], most: int = _MOST_NAMES) -> range:
    """Return the places that have a name."""
    return range(0, len(names), -(-len(names) // most))


def shown_layers(names: Iterable[str]) -> dict[str, str]:
    """Return the names that a figure has room for, by the names of states.

    If some are long, all are those of the layers, where that tells them apart.
    """
    whole = {name: printable_name(name) for name in names}
    if max(map(len, whole.values()), default=0) > _LONGEST_NAME:
        short = {name: printable_name(label) for name, label in layer_labels(whole).items()}
        whole = short if len(set(short.values())) == len(whole) else whole
    return dict(zip(whole, _shortened([*whole.values()]), strict=True))


def _shortened(names: Sequence[str]) -> Sequence[str]:
    """Return the begin and the end of long names, as much as tells them apart."""
    longest, distinct = max(map(len, names), default=0), len(set(names))
    for length in range(_LONGEST_NAME, longest):
        half = length // 2
        short = [n if len(n) <= length else f"{n[:half]}…{n[-half:]}" for n in names]
        if len(set(short)) == distinct:
            return short
    return names


def name_lines(ax: Axes, title: str = "", *, beside: bool = False) -> None:
    """Name the lines of axes in a legend: of many, one every so often, and beside the axes."""
    # Of names that begin with _, matplotlib takes none by itself: so it names lines without one.
    named = [(line, str(line.get_label())) for line in ax.lines]
    named = [(line, name) for line, name in named if not re.fullmatch(r"_child\d+", name)]
    step = max(1, -(-len(named) // _MOST_LINES))
    if step > 1:
        title = f"{title}{title and ': '}one of {step} is named"
    where: dict[str, Any] = {}
    if beside or step > 1:
        where = {"loc": "upper left", "bbox_to_anchor": (1, 1), "fontsize": "small"}
    lines = [line for line, _ in named[::step]]
    legend = ax.legend(lines, [""] * len(lines), frameon=False, title=title, **where)
    for text, (_, name) in zip(legend.get_texts(), named[::step], strict=True):
        text.set_text(name)  # given to legend(), matplotlib 3.9 warns of a _
    plain_names(legend)


def plain_names(legend: Legend) -> None:
    """Show the names of a legend as they are."""
    for text in legend.get_texts():
        text.set_parse_math(False)
