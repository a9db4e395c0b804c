"""Functions with weights, whose outputs have neurons of their own: layers, products, norms."""

import math
import string
from collections.abc import Sequence

from torch import Tensor

from .calls import Call, Result, rule
from .factors import (
    BATCH,
    NEURON,
    SEQUENCES,
    Axes,
    Axis,
    has,
    join,
    neuron,
    neuron_places,
    other,
    others,
    size_of,
    without,
)
from .sequences import inputs_of_sequences


def _leading(axes: Axes | None, shape: Sequence[int]) -> Axes:
    """Return the axes before the new neurons: they keep the inputs, not the old neurons."""
    return others(shape) if axes is None else without(axes, NEURON)


def takes_inputs_for_neurons(call: Call) -> bool:
    """Return whether a layer shows that what was taken for the model's inputs is one input."""
    axes = call.input_axes
    if call.name.startswith("conv") and call.name != "conv_tbc":
        return bool(axes) and len(axes or ()) < _kernel_axes(call) and has((axes or ())[0], BATCH)
    return call.name == "linear" and len(axes or ()) == 1 and has((axes or ())[0], BATCH)


def takes_one_sequence(call: Call) -> bool:
    """Return whether a layer takes what was taken for the model's inputs for steps of one sequence.

    It is given (steps, features); recurrent layers add an axis.
    """
    axes = call.known(call.tensors[0]) if call.name in _OF_SEQUENCES else None
    if axes is None:
        return False
    if call.name in _RECURRENT:
        layer = call.caller("torch.nn.modules.rnn")
        has_own_axis = layer is None or layer.f_locals.get("is_batched") is not False
        return not has_own_axis and has(axes[int(call.args[-1])], BATCH)  # batch_first
    return len(axes) == 2 and has(axes[0], BATCH)


def takes_inputs_for_steps(call: Call) -> bool:
    """Return whether a layer takes what was taken for the model's inputs for steps of sequences.

    It has sequences of its own, along axis 1: the model is given (steps, inputs, features).
    """
    if call.name == "multi_head_attention_forward":  # which nn.MultiheadAttention gives steps first
        given = call.tensors[:2]
    elif call.name in _RECURRENT and call.args[-1] is False:  # batch_first
        given = call.tensors[:1]
    else:
        return False
    several = (call.known(x) or () for x in given if x.ndim == 3 and x.shape[1] > 1)
    return any(has(axes[0], BATCH) and not has(axes[1], BATCH) for axes in several if axes)


_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_OF_SEQUENCES = (*_RECURRENT, "multi_head_attention_forward")


def _kernel_axes(call: Call) -> int:
    """Return the number of axes of a convolution's kernel: as many as those of batched inputs."""
    weight = call.argument(1, "weight")
    return weight.ndim if isinstance(weight, Tensor) else call.out.ndim  # quantised ones are packed


@rule("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc")
def _convolution(call: Call) -> Result:
    x, shape = call.input, call.shape
    axes = call.known(x)
    if call.name == "conv_tbc":
        return (*_leading(axes and axes[:2], shape[:2]), neuron(shape[2]))
    if x.ndim < _kernel_axes(call):  # without a batch axis
        return (neuron(shape[0]), *others(shape[1:]))
    return (*_leading(axes and axes[:1], shape[:1]), neuron(shape[1]), *others(shape[2:]))


@rule("linear")
def _linear(call: Call) -> Result:
    weight = call.known(matrix := call.argument(1, "weight"))
    if weight is None or len(weight) != 2 or call.is_weight(matrix):  # also of several, as in LoRA
        return _bilinear(call)
    # A product of two activations, such as a layer whose weights another layer computed.
    return _product(call, call.input, matrix.mT, (weight[1], weight[0]))


@rule("bilinear")
def _bilinear(call: Call) -> Result:
    axes = call.input_axes
    return (*_leading(axes and axes[:-1], call.shape[:-1]), neuron(call.shape[-1]))


@rule("embedding")
def _embedding(call: Call) -> Result:
    # nn.functional passes (input, weight), torch.embedding takes (weight, input).
    ids = next((t for t in call.tensors if not t.is_floating_point()), None)
    return (*_leading(call.known(ids), call.shape[:-1]), neuron(call.shape[-1]))


@rule("embedding_bag")
def _embedding_bag(call: Call) -> Result:
    ids, *offsets = [t for t in call.tensors if not t.is_floating_point()]
    bags = offsets[0] if ids.ndim == 1 and offsets else ids  # where bags begin among all ids
    axes = call.known(bags)
    rows = axes[:1] if axes is not None and bags.shape[:1] == call.shape[:1] else None
    return (*_leading(rows, call.shape[:-1]), neuron(call.shape[-1]))


@rule("multi_head_attention_forward _native_multi_head_attention _transformer_encoder_layer_fwd")
def _attention(call: Call) -> Result:
    axes = call.input_axes
    if call.out.is_nested:  # it has no shape, and as many features as the input
        return None if axes is None else (*without(axes[:-1], NEURON), neuron(size_of(axes[-1])))
    same = axes is not None and len(axes) == call.out.ndim
    leading = _leading(axes[:-1] if same and axes else None, call.shape[:-1])
    if call.name == "multi_head_attention_forward" and len(leading) == 2:
        leading = (leading[0], _inputs_along(leading[1], call.known(call.tensors[1])))
    return (*leading, neuron(call.shape[-1]))


def _inputs_along(axis: Axis, keys: Axes | None) -> Axis:
    """Return an axis of queries, which may be weights, with the inputs that keys have there."""
    if has(axis, BATCH) or keys is None or len(keys) != 3 or not has(keys[1], BATCH):
        return axis
    return keys[1] if size_of(keys[1]) == size_of(axis) else axis


@rule(" ".join([*_RECURRENT, "quantized_lstm", "quantized_gru"]))
def _recurrent(call: Call) -> Result:
    axes = call.known(call.tensors[0])
    same = axes is not None and len(axes) == call.out.ndim
    leading = _leading(axes[:-1] if same and axes else None, call.shape[:-1])
    first = (*leading, neuron(call.shape[-1]))
    inputs = [axis for axis in leading if has(axis, BATCH) or has(axis, SEQUENCES)]
    # The last states are (layers, inputs, features).
    last = [
        (
            other(t.shape[0]),
            inputs_of_sequences(inputs[0], t.shape[1]) or inputs[0],
            neuron(t.shape[2]),
        )
        if len(inputs) == 1 and t.ndim == 3
        else (*others(t.shape[:-1]), neuron(t.shape[-1]))
        for t in call.outputs[1:]
        if isinstance(t, Tensor)
    ]
    return [first, *last]


@rule("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
def _recurrent_cell(call: Call) -> Result:
    axes = call.known(call.tensors[0])
    each = (*_leading(axes and axes[:-1], call.shape[:-1]), neuron(call.shape[-1]))
    return [each] * len(call.outputs)


_MATRIX_PRODUCTS = "matmul mm bmm __matmul__ __rmatmul__ addmm baddbmm addbmm mv"
SUMS_OF_PRODUCTS = {*_MATRIX_PRODUCTS.split(), "einsum", "dot", "inner", "tensordot"}


@rule(_MATRIX_PRODUCTS)
def _matmul(call: Call) -> Result:
    first, second = call.tensors[-2:]
    if call.name == "__rmatmul__":
        first, second = second, first
    return _product(call, first, second, call.known(second))


def _product(call: Call, first: Tensor, second: Tensor, right: Axes | None) -> Result:
    """Return the axes of a matrix product. ``right``: of its second factor."""
    shape, left = call.shape, call.known(first)
    if (first.ndim, second.ndim) == (2, 1):  # as of one neuron, whose axis is then taken away
        return left and left[:1]
    if (first.ndim, second.ndim) == (1, 2):
        return right and right[1:]
    if len(shape) < 2 or first.ndim < 2 or second.ndim < 2:
        return None
    if call.is_weight(second):
        return (*_leading(left and left[:-1], shape[:-1]), neuron(shape[-1]))
    if left is None and right is None:
        return None
    rows = left[-2] if left is not None else other(shape[-2])
    columns = right[-1] if right is not None else other(shape[-1])
    if call.is_weight(first):
        rows = neuron(shape[-2])  # a mixing of rows, or new neurons: both then hold neurons
    elif shape[-2] == 1 and not has(columns, NEURON):
        rows = other(1)  # a single neuron weighs what has none
    sides = [side[:-2] for side in (left, right) if side is not None]
    leading = join(sides, shape[:-2])
    return None if leading is None else (*leading, rows, columns)


@rule("grouped_mm _grouped_mm")
def _grouped_product(call: Call) -> Result:
    """The rows of a matrix times a stack of weights, each with the weight of its expert."""
    axes, weight = call.input_axes, call.argument(1, "mat2", "mat_b")
    if call.known(weight) is not None or weight.ndim != 3 or len(call.shape) != 2:
        return None
    return (*_leading(axes and axes[:1], call.shape[:1]), neuron(call.shape[1]))


@rule("cdist")
def _distances_to_table(call: Call) -> Result:
    """Each vector of a codebook, or center, is a neuron. Other distances have none."""
    points, table = call.tensors[:2]
    if call.known(table) is not None or call.is_lost(table) or math.prod(table.shape[:-2]) != 1:
        return None
    axes = call.known(points)
    return (*_leading(axes and axes[:-1], call.shape[:-1]), neuron(call.shape[-1]))


@rule("einsum")
def _einsum(call: Call) -> Result:
    equation = call.args[0]
    if not isinstance(equation, str) or "->" not in equation:
        return None
    *operands, output = _without_ellipsis(equation, [tensor.ndim for tensor in call.tensors])
    sources: dict[str, Axis] = {}
    weights: set[str] = set()
    for letters, tensor in zip(operands, call.tensors, strict=True):
        axes = call.known(tensor)
        if axes is None and call.is_weight(tensor):
            weights.update(letters)
        for letter, axis in zip(letters, axes or (), strict=False):
            if letter not in sources or has(axis, NEURON) or has(axis, BATCH):
                sources[letter] = axis
    new = {letter for letter in output if letter in weights and letter not in sources}
    if not sources:
        return None
    result = [
        neuron(size) if letter in new else sources.get(letter, other(size))
        for letter, size in zip(output, call.shape, strict=True)
    ]
    if new:
        result = [
            axis if letter in new else without((axis,), NEURON)[0]
            for letter, axis in zip(output, result, strict=True)
        ]
    return tuple(result)


def _without_ellipsis(equation: str, ranks: Sequence[int]) -> list[str]:
    """Return the letters of each operand and of the output, with digits where ... stands."""
    inputs, _, output = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    hidden = [n - len(each.replace("...", "")) for n, each in zip(ranks, operands, strict=True)]
    most = max(hidden)
    digits = string.digits[:most]  # of an operand with fewer such axes, the last ones
    each = [o.replace("...", digits[most - n :]) for o, n in zip(operands, hidden, strict=True)]
    return [*each, output.replace("...", digits)]


@rule("scaled_dot_product_attention flex_attention")
def _scaled_dot_product(call: Call) -> Result:
    query, _, value = (call.known(t) for t in call.tensors[:3])
    if value is None:
        return None
    sides = [side[:-2] for side in (query, value) if side is not None]
    leading = join(sides, call.shape[:-2])
    rows = other(call.shape[-2]) if query is None else without(query[-2:-1], NEURON)[0]
    return None if leading is None else (*leading, rows, value[-1])


def _keeps_neurons(call: Call) -> bool:
    """Return whether a norm leaves neurons where they are: those with weights have their own.

    Without weights and statistics it makes none, also where there are none (of scores).
    """
    axes = call.input_axes
    weighted = any(map(call.is_weight, call.tensors[1:]))
    has_neurons = axes is not None and bool(neuron_places(axes))
    return len(call.tensors) == 1 or (has_neurons and not weighted)


@rule(
    "batch_norm batch_norm1d batch_norm2d batch_norm3d group_norm instance_norm native_batch_norm "
    "native_group_norm"
)
def _channel_norm(call: Call) -> Result:
    axes, shape = call.input_axes, call.shape
    if _keeps_neurons(call):
        return axes
    if len(shape) < 2:
        return None
    return (*_leading(axes and axes[:1], shape[:1]), neuron(shape[1]), *others(shape[2:]))


@rule("layer_norm native_layer_norm rms_norm _fused_rms_norm")
def _layer_norm(call: Call) -> Result:
    axes = call.input_axes
    normalized = call.argument(1, "normalized_shape")
    if _keeps_neurons(call) or len(tuple(normalized)) != 1:
        return axes
    return (*_leading(axes and axes[:-1], call.shape[:-1]), neuron(call.shape[-1]))
