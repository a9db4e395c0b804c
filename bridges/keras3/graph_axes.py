"""Keras 3: follows an axis through the graph of a functional model, from what feeds a tensor."""

import contextlib
import enum
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import keras

from .functional import has_graph


class Unknown(enum.Enum):
    """What may be known of an axis that has no number."""

    LOST = "no axis, or several, hold it"


LOST = Unknown.LOST
Axis = int | Unknown | None  # counted from the front; None if nothing is known


class Symbol(Protocol):
    """A symbolic tensor of Keras."""

    name: str
    shape: tuple[int | None, ...]
    _keras_history: tuple[Any, int, int]


# Returns the axis of a tensor that an operation makes, from those of the tensors that it takes.
Rule = Callable[[Any, Any, Symbol, Sequence[Axis]], Axis]


class GraphAxes:
    """Finds an axis of symbolic tensors. ``given``: as given_to_nested() returns it."""

    def __init__(self, given: Mapping[int, Sequence[Symbol]], rule: Rule) -> None:
        self._given, self._rule = given, rule
        self._found: dict[int, Axis] = {}

    def of(self, tensors: Iterable[Symbol]) -> Axis:
        """Return the axis of tensors that a place of a model has in turn; LOST if theirs differ."""
        found = {(self._of(tensor), len(tensor.shape) - 1) for tensor in tensors}
        axes = {axis for axis, _ in found}
        if len(axes) <= 1:
            return axes.pop() if axes else None
        # The last axis in all of them, as far as is known.
        return None if all(axis in (None, last) for axis, last in found) else LOST

    def _of(self, tensor: Symbol) -> Axis:
        """Without recursion: graphs are deeper than Python's stack."""
        stack, begun = [tensor], set[int]()
        while stack:
            last = stack[-1]
            feeding = [each for each in self._feeding(last) if id(each) not in self._found]
            if id(last) in self._found or id(last) in begun or not feeding:
                self._found.setdefault(id(last), self._by_feeding(last))
                stack.pop()
            else:
                begun.add(id(last))
                stack += [each for each in feeding if id(each) not in begun]
        return self._found[id(tensor)]

    def _feeding(self, tensor: Symbol) -> Sequence[Symbol]:
        """Return what a tensor comes from: several, also for an input of a nested model."""
        if id(tensor) in self._given:
            return self._given[id(tensor)]
        if getattr(tensor, "_keras_history", None) is None:
            return ()
        operation, number, place = tensor._keras_history
        if has_graph(operation):
            return [ends_of(operation)[1][place]]
        inputs: Sequence[Symbol] = operation._inbound_nodes[number].input_tensors
        return inputs

    def _by_feeding(self, tensor: Symbol) -> Axis:
        axes = [self._found.get(id(each)) for each in self._feeding(tensor)]
        if getattr(tensor, "_keras_history", None) is None:
            return None
        operation, number, _ = tensor._keras_history
        if id(tensor) in self._given or has_graph(operation):
            return _of_several(set(axes))
        return self._rule(operation, operation._inbound_nodes[number], tensor, axes)


def _of_several(found: Collection[Axis]) -> Axis:
    """Return the axis that all have of which one is known; LOST if these differ."""
    known = set(found) - {None}
    return (known.pop() if len(known) == 1 else LOST) if known else None


def given_to_nested(model: Any) -> dict[int, list[Symbol]]:
    """Return what nested models are called with, by the ids of their inputs."""
    given: dict[int, list[Symbol]] = {}
    for nested in filter(has_graph, model._flatten_layers(include_self=False)):
        inputs, _ = ends_of(nested)
        for node in nested._inbound_nodes:
            for tensor, outer in zip(inputs, node.input_tensors, strict=False):
                given.setdefault(id(tensor), []).append(outer)
    return given


def ends_of(model: Any) -> tuple[list[Symbol], list[Symbol]]:
    """Return the inputs and outputs of a functional model."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph.inputs, graph.outputs


def moved(operation: Any, node: Any, tensor: Symbol, axes: Sequence[Axis]) -> Axis:
    """Return where an operation without weights puts an axis of what it takes.

    It is the axis of the output whose size changes with those of the inputs. None if this cannot
    be tried, as the operation insists on sizes.
    """
    if type(operation).__name__ == "Reshape":
        return reshaped(node.input_tensors[0].shape, tensor.shape, axes[0])
    changed = {
        id(each): _with_another_size(each, axis)
        for each, axis in zip(node.input_tensors, axes, strict=False)
        if isinstance(axis, int)
    }
    if not changed or None in changed.values():
        return None
    shape = shape_if(operation, node, tensor, changed)
    return None if shape is None else _where_they_differ(tensor.shape, shape)


def shape_if(
    operation: Any, node: Any, tensor: Symbol, changed: Mapping[int, Any]
) -> Sequence[Any] | None:
    """Return the shape that an output would have if an operation took other tensors.

    ``changed``: these, by the ids of those that it takes. None if they do not suit it.
    """
    try:
        args, kwargs = node.arguments.convert(lambda part: changed.get(id(part), part))
        with left_as_it_was(operation):
            outputs = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
        shape: Sequence[Any] = outputs[tensor._keras_history[2]].shape
    except Exception:  # whatever an operation raises for sizes that do not suit it
        return None
    return shape


def takes_another_size(
    operation: Any, node: Any, tensor: Symbol, axis: int, size: int | None = None
) -> bool:
    """Return whether a layer's code takes inputs with twice as much along an axis, or of a size.

    Not so where its weights have that size. Of the inputs that have the shape of its output.
    """
    changed = {
        id(each): _with_another_size(each, axis, size)
        for each in node.input_tensors
        if tuple(each.shape) == tuple(tensor.shape)
    }
    if None in changed.values():
        return False
    try:
        with left_as_it_was(operation):
            run_on_symbols(node, changed)
    except Exception:  # whatever an operation raises for sizes that do not suit it
        return False
    return True


def run_on_symbols(node: Any, changed: Mapping[int, Any]) -> None:
    """Run the code that a node of a graph calls, with other tensors: see shape_if()."""
    args, kwargs = node.arguments.convert(lambda part: changed.get(id(part), part))
    # Not the method of the layer, which may know its shapes without running the code.
    keras.Operation.compute_output_spec(node.operation, *args, **kwargs)


@contextlib.contextmanager
def left_as_it_was(layer: Any) -> Iterator[None]:
    """Keep the attributes of a layer and those inside, which their code may set.

    And the losses of the last call, which calls of the layers inside would clear.
    """
    kept = [
        (each, {**vars(each)}, [*each._losses], {*each._loss_ids})
        for each in getattr(layer, "_flatten_layers", tuple)()  # operations have nothing inside
    ]
    try:
        yield
    finally:
        for each, attributes, losses, ids in kept:
            for name in vars(each).keys() - attributes.keys():
                del vars(each)[name]
            vars(each).update(attributes)
            each._losses[:] = losses
            each._loss_ids.update(ids)


def _where_they_differ(before: Sequence[Any], after: Sequence[Any]) -> Axis:
    places = [
        axis for axis, sizes in enumerate(zip(before, after, strict=False)) if len({*sizes}) > 1
    ]
    return places[0] if len(places) == 1 and len(before) == len(after) else LOST


def _with_another_size(tensor: Any, axis: int, size: int | None = None) -> Any:
    """Return a symbolic tensor with another size along an axis: twice as much, if none is given.

    None if the size that it has is not known.
    """
    if axis >= len(tensor.shape) or (before := tensor.shape[axis]) is None:
        return None
    shape = [*tensor.shape[:axis], size or 2 * before, *tensor.shape[axis + 1 :]]
    return keras.KerasTensor(shape, dtype=tensor.dtype)


def reshaped(before: Sequence[int | None], after: Sequence[int | None], axis: Axis) -> Axis:
    """Return where an axis is after a reshape, also if it is then joined with others.

    LOST if several axes have it. None if sizes that are not known leave that open.

    >>> reshaped((None, 6, 7, 8), (None, 42, 8), 3), reshaped((None, 12), (None, 12, 1), 1)
    (2, 1)
    >>> {reshaped((None, 6, 8), after, 2) for after in ((None, 6, 2, 4), (None, 8, 6))} == {LOST}
    True
    """
    if not isinstance(axis, int):
        return axis
    inner, size = _product(before[axis + 1 :]), before[axis]
    if inner is None or size is None:
        return None
    found, steps = list[int](), 1  # from one entry of an axis of the output to the next
    for place, length in reversed([*enumerate(after)]):
        if length == 1:
            continue
        if steps % (inner * size) == 0:
            break
        if length is None or inner % (steps * length):
            found.append(place)
        if length is None:  # it has all that is left
            break
        steps *= length
    return found[0] if len(found) == 1 else LOST


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if None in sizes else math.prod(size for size in sizes if size is not None)
