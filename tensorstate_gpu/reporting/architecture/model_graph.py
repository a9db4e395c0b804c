"""ModelGraph: what calls what in a model, as bridges find it: plain nodes and edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class GraphNode:
    """A call of a layer or a function. ``kind``: the class of the layer; of others, what they are.

    ``layer``: the name of the layer whose call it is; None for functions, inputs and outputs.
    ``call``: 1 for its first call in a pass, 2 for the second, and so on.
    """

    name: str
    kind: str
    layer: str | None = None
    call: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class ModelGraph:
    """``edges``: from and to which node, by their places in ``nodes``.

    ``note``: why this is not all that one would expect, such as a tree of layers instead.
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[tuple[int, int], ...]
    note: str = ""


class GraphBuilder:
    """Collects nodes and edges, and counts the calls of each layer."""

    def __init__(self) -> None:
        self._nodes: list[GraphNode] = []
        self._edges: list[tuple[int, int]] = []
        self._calls: dict[str, int] = {}

    def add(self, name: str, kind: str, feeding: Collection[int]) -> int:
        """Add a function, an input or an output after the nodes that feed it; return its place."""
        return self._add(GraphNode(name, kind), feeding)

    def add_layer(self, layer: str, kind: str, feeding: Collection[int]) -> int:
        """Add a call of a layer."""
        call = self._calls[layer] = self._calls.get(layer, 0) + 1
        return self._add(GraphNode(layer, kind, layer, call), feeding)

    def _add(self, node: GraphNode, feeding: Collection[int]) -> int:
        place = len(self._nodes)
        self._nodes.append(node)
        self._edges += [(each, place) for each in dict.fromkeys(feeding)]
        return place

    def graph(self, note: str = "") -> ModelGraph:
        return ModelGraph(tuple(self._nodes), tuple(self._edges), note)


class Graphs(Protocol):
    """The module ``graphs`` of a bridge."""

    def graph_of(self, model: object, layers: Collection[str]) -> ModelGraph:
        """Return the graph of a model, in which these layers are nodes if that is possible."""
        ...
