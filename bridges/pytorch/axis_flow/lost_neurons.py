"""After which function nothing is known of the neurons that a tensor was computed from"""

from collections.abc import Callable, Mapping

from torch import Tensor

from .calls import Call
from .factors import Axes, counts_inputs, is_without_only_neuron, neuron_axis, size_of
from .mapped import memory_of
from .same_shape import elementwise, rule_of
from .weighted import SUMS_OF_PRODUCTS

ONE = "squeeze of one neuron"  # noted in place of a function
LostAt = Mapping[Tensor, str]


def lost_neurons(
    call: Call,
    output: Tensor,
    axes: Axes | None,
    lost_at: LostAt,
    comes_from_inputs: Callable[[Tensor], bool],
) -> str | None:
    """Return after which function nothing is known of the neurons of an output.

    ``axes``: what is known of the output. None if it has no neurons: inputs have none, whatever
    they are multiplied by. The axis of a layer's only neuron may be taken away: then each entry is
    one state of that neuron, wherever entries go from there, and ONE is noted.
    """
    read = _without_factors(call, output)
    if call.name in SUMS_OF_PRODUCTS and not (output.ndim == 1 and counts_inputs(axes)):
        weighed = [t for t in read if not _is_of_one(t, call, lost_at)]
        read = weighed if any(map(comes_from_inputs, weighed)) else read
    earlier = {lost_at[t]: None for t in read if t in lost_at}
    had = [t for t in read if neuron_axis(call.known(t)) is not None]
    if (had or earlier) and _is_of_all_entries(call, output):
        return call.name
    if not had and not earlier and _may_be_layer(call):
        return call.name
    if had:
        before = call.known(had[0]) or ()
        is_gone = len(call.tensors) == 1 and is_without_only_neuron(before, output.shape)
        return ONE if is_gone else call.name
    if ONE not in earlier or len(earlier) > 1:
        return next((name for name in earlier if name != ONE), None)
    # Not where they are repeated, nor side by side: there they may be of one layer or of several.
    ones = [t.numel() for t in read if lost_at.get(t) == ONE]
    return ONE if output.numel() <= max(ones) else call.name


def _may_be_layer(call: Call) -> bool:
    """Return whether a function without a rule reads weights: its output may have neurons.

    Such as an operator of another library, and what is checkpointed in a compiled graph.
    """
    are_weights = [call.is_weight(tensor) for tensor in call.tensors]
    return rule_of(call.name) is None and any(are_weights) and not all(are_weights)


def _is_of_all_entries(call: Call, output: Tensor) -> bool:
    """Return whether a call computes one number of all entries, as a loss does, or a mean.

    Of a batch of one input, that is also the shape of what squeeze() leaves, or of one entry.
    """
    if output.ndim or memory_of(output) in map(memory_of, call.tensors):
        return False
    return any(tensor.ndim for tensor in call.tensors) or rule_of(call.name) is None


def _without_factors(call: Call, output: Tensor) -> list[Tensor]:
    """Return the tensors that a call reads, but those that scale or shift all of a larger one."""
    if rule_of(call.name) is not elementwise:
        return call.tensors
    numbers = (t for t in call.tensors if t.is_floating_point() or t.is_complex())
    return [t for t in numbers if t.numel() == output.numel()] or call.tensors


def _is_of_one(tensor: Tensor, call: Call, lost_at: LostAt) -> bool:
    """Return whether a tensor has a single neuron: with its axis, or without."""
    axes = call.known(tensor)
    place = neuron_axis(axes)
    has_axis = axes is not None and place is not None and size_of(axes[place]) == 1
    return has_axis or lost_at.get(tensor) == ONE
