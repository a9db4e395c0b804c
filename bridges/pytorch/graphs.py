"""PyTorch: the graph of a model, by torch.fx; the tree of its modules where that cannot follow."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx, nn

from tensorstate_gpu.reporting.architecture.model_graph import GraphBuilder, ModelGraph

from .marked_classes import plain_class
from .models import itself, layers

_OF_TORCH = ("torch.nn", "torch.ao.nn")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def graph_of(model: nn.Module, wanted: Collection[str]) -> ModelGraph:
    """Return the graph of a model whose modules of these names are nodes, if none is in another.

    torch.fx runs the model's code without numbers. Code that asks for them, as in ``if x.sum() >
    0``, raises an error then: the result is the tree of modules, and its note says so.
    """
    _, plain = itself(model)
    try:
        traced = _Tracer(wanted).trace(plain)
    except Exception as error:  # any: it comes from the model's code
        reason = f"{type(error).__name__}: {str(error).partition('. ')[0].partition(chr(10))[0]}"
        return _tree(model, f"the tree of modules: torch.fx cannot follow the model ({reason})")
    return _of_trace(plain, traced)


class _Tracer(fx.Tracer):
    """Traces down to the modules of torch, and to those that are wanted."""

    def __init__(self, wanted: Collection[str]) -> None:
        super().__init__()
        holders = {name[:at] for name in wanted for at, char in enumerate(name) if char == "."}
        self._wanted = set(wanted) - holders

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        of_torch = plain_class(m).__module__.startswith(_OF_TORCH)
        return module_qualified_name in self._wanted or (
            of_torch and not isinstance(m, _CONTAINERS)
        )


def _of_trace(model: nn.Module, traced: fx.Graph) -> ModelGraph:
    builder = GraphBuilder()
    places: dict[fx.Node, int] = {}
    for node in traced.nodes:
        feeding = [places[each] for each in node.all_input_nodes if each in places]
        if node.op == "call_module":
            kind = plain_class(model.get_submodule(node.target)).__name__
            places[node] = builder.add_layer(node.target, kind, feeding)
        elif node.op != "get_attr":  # parameters are not shown
            kind = {"placeholder": "input", "output": "output"}.get(node.op, "function")
            name = getattr(node.target, "__name__", str(node.target))
            places[node] = builder.add("" if kind == "output" else name, kind, feeding)
    return builder.graph()


def _tree(model: nn.Module, note: str) -> ModelGraph:
    builder = GraphBuilder()
    name, _ = itself(model)
    places = {"": builder.add(name, "model", ())}
    for path, module in layers(model):
        if path != name:
            parent = places[path.rpartition(".")[0]]
            places[path] = builder.add_layer(path, plain_class(module).__name__, [parent])
    return builder.graph(note)
