"""Keras 3: whether the graph of a functional model tells that axis 0 does not count its inputs."""

from collections.abc import Sequence
from typing import Any

import keras

from .graph_axes import LOST, Axis, GraphAxes, Symbol, shape_if
from .neuron_axes import is_by_element

# Operations that put what lies along an axis in another order.
_REORDERING = {
    *("Flip", "Flipud", "Roll", "Sort", "Argsort", "Argpartition"),
    *("Take", "TakeAlongAxis"),
}
_KEEPING_LAYERS = (
    *(keras.layers.Dense, keras.layers.LayerNormalization, keras.layers.BatchNormalization),
    keras.layers.RMSNormalization,
)
MANY = 211  # inputs: a size that no other axis is likely to have


def has_other_axis_0(tensors: Sequence[Symbol], model: object, flow: GraphAxes) -> bool:
    """Return whether the graph of a model tells that axis 0 of tensors does not count its inputs.

    Where any number of inputs can be given, the axis that counts them has no size in the graph.
    ``flow``: follows the axis of the inputs, by inputs_rule().
    """
    inputs: list[Symbol] = getattr(model, "inputs", None) or []
    if not inputs or any(tensor.shape[:1] != (None,) for tensor in inputs):
        return False
    return any(tensor.shape[0] is not None for tensor in tensors) or flow.of(tensors) not in (
        0,
        None,
    )


def inputs_rule(operation: Any, node: Any, tensor: Symbol, axes: Sequence[Axis]) -> Axis:
    """Return the axis of what an operation makes that counts the inputs; see graph_axes.Rule.

    0 where some of the tensors that it takes are in the order of the inputs, as in a join. None
    where nothing tells: then the batches will.
    """
    if node.is_input:
        return 0 if tensor.shape[:1] == (None,) else None
    name = type(operation).__name__
    # A table that is no tensor of the graph has no inputs: what is taken of it is in their order.
    if name in _REORDERING and _first_argument(node) is node.input_tensors[0]:
        axes = axes[:1]
        if _touches(operation, len(node.input_tensors[0].shape), axes[0]):
            return LOST
    if name == "Reshape":
        return 0 if axes[0] == 0 else None
    known = _joined(axes)
    keeps = is_by_element(operation) or isinstance(operation, _KEEPING_LAYERS)
    if known in (None, LOST) or keeps:
        return known
    if _may_move(operation):
        return _moved(operation, node, tensor, axes)
    return 0 if known == 0 else LOST


def _first_argument(node: Any) -> Any:
    return next(iter((*node.arguments.args, *node.arguments.kwargs.values())), None)


def _joined(axes: Sequence[Axis]) -> Axis:
    if 0 in axes:
        return 0
    known = {axis for axis in axes if axis is not None}
    return known.pop() if len(known) == 1 else LOST if known else None


def _may_move(operation: Any) -> bool:
    """Return whether an operation may put axes in another order: not a layer that Keras has."""
    if not isinstance(operation, keras.layers.Layer):
        return True
    of_keras = type(operation).__module__.startswith("keras.")
    return isinstance(operation, keras.layers.Lambda) or not (of_keras or operation.weights)


def _touches(operation: Any, ndim: int, axis: Axis) -> bool:
    """Return whether an operation puts what lies along this axis in another order."""
    if not isinstance(axis, int):
        return False
    given = 0 if type(operation).__name__ == "Flipud" else getattr(operation, "axis", None)
    if given is None:
        return True
    places = given if isinstance(given, (list, tuple)) else [given]
    return axis in [place % ndim for place in places]


def _moved(operation: Any, node: Any, tensor: Symbol, axes: Sequence[Axis]) -> Axis:
    """Return which axis of the output has as many entries as there are inputs, if they are many."""
    sizes = {
        id(each): keras.KerasTensor(
            [MANY if place == axis else size for place, size in enumerate(each.shape)],
            dtype=each.dtype,
        )
        for each, axis in zip(node.input_tensors, axes, strict=False)
        if isinstance(axis, int)
    }
    shape = shape_if(operation, node, tensor, sizes)
    return shape.index(MANY) if shape is not None and MANY in shape else None
