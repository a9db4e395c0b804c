"""The colour of a layer by one of its measures: readable in grey, with the number beside it."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from tensorstate_gpu.reporting.figures.canvas import BLUE, RED
from tensorstate_gpu.reporting.figures.efficiency_figure import FILLS
from tensorstate_gpu.reporting.layer_report import LayerReport
from tensorstate_gpu.reporting.text import format_part, format_percent

Measure = Literal["efficiency", "dead_share", "quality"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
_LEGENDS = {
    "efficiency": "blue: a high efficiency; white: 0 %",
    "dead_share": "red: many neurons that never fired; white: none",
    "quality": "blue: good; light blue: rough; dashed: bounds only",
}


class Look(NamedTuple):
    """The colour of a layer, what is written about it, and whether its border is dashed."""

    fill: str
    words: str
    is_dashed: bool = False


def look_of(layer: LayerReport, dead_share: float, measure: Measure) -> Look:
    """Return how a layer looks. ``dead_share``: that of its neurons that never fired."""
    if measure == "quality":
        return Look(FILLS[layer.quality], layer.quality, layer.quality == "bounds only")
    if measure == "efficiency":
        return Look(shade(BLUE, layer.efficiency), f"{format_percent(layer.efficiency)} efficient")
    return Look(shade(RED, dead_share), f"{format_part(dead_share)} dead")


def legend(measure: Measure) -> str:
    return f"{_LEGENDS[measure]}; grey: not captured"


def shade(darkest: str, share: float) -> str:
    """Return a colour between white, for 0, and the darkest, for 1.

    >>> shade("#0072B2", 0), shade("#0072B2", 0.5), shade("#0072B2", 1)
    ('#ffffff', '#80b8d8', '#0072b2')
    """
    parts = (int(darkest[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * share):02x}" for part in parts)


def text_on(fill: str) -> str:
    """Return black or white: what can be read on a colour (WCAG 2.2, relative luminance)."""
    red, green, blue = (int(fill[place : place + 2], 16) / 255 for place in (1, 3, 5))
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "#000000" if luminance > 0.18 else "#ffffff"
