"""Draws the graph of a model with its layers in the colours of a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import cast

from tensorstate_gpu._arguments import choice, flag, positive_integer
from tensorstate_gpu._arrays.frameworks import graphs_of
from tensorstate_gpu._process.new_files import check_new, new_file
from tensorstate_gpu.reporting.architecture.colours import (
    MEASURES,
    Look,
    Measure,
    legend,
    look_of,
    text_on,
)
from tensorstate_gpu.reporting.architecture.dot import Box, dot_source, drawn
from tensorstate_gpu.reporting.architecture.model_graph import GraphNode, Graphs
from tensorstate_gpu.reporting.layer_names import layer_of
from tensorstate_gpu.reporting.report_table import Report
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.reporting.tidy_tables import HasMeasures, what_came

_FORMATS = ("svg", "png", "pdf")
_MOST_DPI = 2400  # of the finest printers


@dataclasses.dataclass(frozen=True, slots=True)
class Drawing:
    """A graph, as a text in the language of Graphviz, and its picture. Notebooks show it.

    ``source`` can be read without Graphviz; everything else needs its program ``dot``.
    """

    __module__ = "tensorstate_gpu.reporting"

    source: str = dataclasses.field(repr=False)

    def to_svg(self) -> str:
        """Return the picture as SVG. Raises FileNotFoundError if Graphviz is not installed."""
        return drawn(self.source, "svg", 96).decode()

    def save(self, path: str | PathLike[str], dpi: int = 96, *, overwrite: bool = False) -> None:
        """Write a new file, whose ending says what it is: .svg, .png or .pdf.

        ``dpi``: of a .png, at most 2,400. Raises FileNotFoundError if Graphviz is not installed,
        ValueError for another ending or number, or if the file exists, without ``overwrite=True``,
        OSError if it cannot be written. Nothing new is left then. Warns if Graphviz has made a .png
        smaller: it has at most 32,767 pixels in each direction.
        """
        check_new(path, overwrite=flag(overwrite, "overwrite"))
        file_format = Path(fspath(path)).suffix[1:].lower()
        if file_format not in _FORMATS:
            raise ValueError(f"path must end in .svg, .png or .pdf, got {fspath(path)!r}")
        dpi = positive_integer(dpi, "dpi", _MOST_DPI)
        picture = drawn(self.source, file_format, dpi)
        with new_file(path, overwrite=overwrite) as file:
            file.write(picture)

    def _repr_svg_(self) -> str:
        return self.to_svg()


def draw_architecture(model: object, report: Report, colour_by: Measure = "efficiency") -> Drawing:
    """Draw what calls what in a model, with its layers coloured by a measure.

    Each layer has the measure written in its box, so that it can be read in grey. Layers that were
    not captured are grey; functions, inputs and outputs have no border.

    The graph of a PyTorch model is that of torch.fx; where that cannot follow the model's code, it
    is the tree of its modules. The graph of a functional or Sequential Keras model is its own; of
    a subclassed one it is the tree of its layers. The picture says so.

    Parameters
    ----------
    model : torch.nn.Module or Keras model
        The one that was captured.
    report : Report
        Of this model.
    colour_by : str
        "efficiency", "dead_share" (neurons that never fired), or "quality".

    Returns
    -------
    Drawing
        ``save("model.svg")``, or .png or .pdf; notebooks show it.

    Raises
    ------
    TypeError
        If the model is neither, or the report is none.
    ValueError
        For another measure.
    """
    choice(colour_by, "colour_by", MEASURES)
    if not isinstance(report, HasMeasures):
        raise TypeError(f"a Report is needed, got {what_came(report)}")
    states = _states_by_layer(report)
    graph = cast(Graphs, graphs_of(model)).graph_of(model, [*states])
    dead = {each.layer: float((each.firing == 0).mean()) for each in report.profiles}
    looks = {each.layer: look_of(each, dead[each.layer], colour_by) for each in report.layers}
    names = [_states_of(node, states) for node in graph.nodes]
    boxes = [
        _box(node, None if name is None else looks[name])
        for node, name in zip(graph.nodes, names, strict=True)
    ]
    absent = len(set(states.values()).difference(names))
    return Drawing(dot_source(boxes, graph.edges, _caption(graph.note, absent, colour_by)))


def _states_by_layer(report: Report) -> dict[str, str]:
    """Return the names of states by those of their layers: at the output, if there are several."""
    found: dict[str, str] = {}
    for each in sorted(report.layers, key=lambda each: each.layer.endswith("_pre_states")):
        for name in (each.layer, *each.other_names):
            found.setdefault(layer_of(name), each.layer)
    return found


def _states_of(node: GraphNode, states: Mapping[str, str]) -> str | None:
    """Return the name of the states of a call of a layer: its own, or those of all calls."""
    if node.layer is None:
        return None
    return states.get(f"{node.layer}:{node.call}", states.get(node.layer))


def _box(node: GraphNode, look: Look | None) -> Box:
    if node.layer is None:
        return Box((node.name or node.kind,), text="#606060", border="")
    lines = (node.layer if node.call == 1 else f"{node.layer}, call {node.call}", node.kind)
    if look is None:
        return Box(lines, fill="#eeeeee")
    border = "dashed" if look.is_dashed else "solid"
    return Box((*lines, look.words), look.fill, text_on(look.fill), border)


def _caption(note: str, absent: int, measure: Measure) -> list[str]:
    missing = f"not in this graph: {with_noun(absent, 'captured layer')}" if absent else ""
    return ["", *(line for line in (legend(measure), note, missing) if line)]
