"""PyTorch: what runs in a pass of a compiled model outside of its graphs.

Such as modules for which torch.compile is disabled, and recurrent layers, which it does not trace.
"""

from collections.abc import Sequence

import torch

from .axis_flow import KnownAxes
from .axis_flow.across_graphs import UNKNOWN, as_text, known_of_left, what_tells_apart
from .current_pass import CurrentPass

OUTSIDE = as_text(UNKNOWN)


def begin_outside(current: CurrentPass, given: Sequence[torch.Tensor], inputs: int | None) -> None:
    """Note that a pass is a part of a compiled one, which has so many inputs.

    What is known of the tensors that it is given is what the graph before knows. Calls count in the
    compiled pass.
    """
    current.is_part, current.inputs, current.calls = True, inputs, None
    known = [known_of_left(tensor) for tensor in given]
    apart = [None if each is None else what_tells_apart(each.axes) for each in known]
    current.signature = (current.signature, str(apart))


def note_given(known: KnownAxes, given: Sequence[torch.Tensor], inputs: int | None) -> None:
    """Note what the graph before knows of the tensors that such a part is given."""
    known.inputs = inputs
    for tensor in given:
        axes, cause, inputs_lost = known_of_left(tensor) or UNKNOWN
        known.note_before(tensor, axes, inputs_lost, cause)
