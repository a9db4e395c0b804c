"""PyTorch: operators at the begin and the end of compiled graphs, for graphs that a break divides.

See axis_flow/across_graphs.py, which says what they note, and axis_flow/graph_axes.py, which puts
them there.
"""

from collections.abc import Sequence
from typing import Any

import torch

from .axis_flow.across_graphs import (
    HERE,
    UNKNOWN,
    are_alike,
    as_text,
    inputs_in,
    inputs_of_left,
    is_in_module,
    known_of_left,
    note_left,
    traced_axes,
)
from .pass_counter import counter_of
from .pass_operators import NOT_IN_CUDA_GRAPHS
from .tensors import is_real_pass

_library: Any = torch.library.Library("tensorstate_gpu", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "enter_graph(Tensor[] given, Tensor(a!) clock, str[] known, bool alone) -> ()",
    tags=NOT_IN_CUDA_GRAPHS,
)
_library.define(
    "leave_graph(Tensor[] results, Tensor(a!) clock, str[] known) -> ()", tags=NOT_IN_CUDA_GRAPHS
)


NOTHING_KNOWN = as_text(UNKNOWN)  # of tensors of a graph that does not fit


def _enter_graph(
    given: Sequence[torch.Tensor], clock: torch.Tensor, known: Sequence[str], alone: bool
) -> None:
    """Note whether a graph is given what it was made for.

    ``known``: what was known of each tensor then. ``alone``: whether the graph was made outside of
    passes of the model, as one of a part of it that is called by itself.
    """
    counter = counter_of(clock) if is_real_pass(clock) else None
    if counter is None:
        return
    then = [traced_axes(text) for text in known]
    in_pass = counter.is_in_pass()
    if alone:
        HERE.fits = not in_pass and not is_in_module()
        HERE.inputs = inputs_in(given[0], then[0]) if given and HERE.fits else None
    else:
        HERE.fits = are_alike(then, [known_of_left(tensor) or UNKNOWN for tensor in given])
        HERE.inputs = None if in_pass else inputs_of_left(given)


def _leave_graph(
    results: Sequence[torch.Tensor], clock: torch.Tensor, known: Sequence[str]
) -> None:
    """Note what is known of the tensors that a graph returns, in a pass that goes on after it."""
    counter = counter_of(clock) if is_real_pass(clock) else None
    if counter is None or counter.here.is_running():  # which is followed outside of graphs
        return
    inputs = counter.here.inputs or HERE.inputs
    for tensor, text in zip(results, known, strict=True):
        note_left(tensor, traced_axes(text) if HERE.fits else UNKNOWN, inputs)


def _do_nothing(*_: object) -> None:
    """Traced passes do not count."""


for name, function in {"enter_graph": _enter_graph, "leave_graph": _leave_graph}.items():
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tensorstate_gpu::{name}", _do_nothing, lib=_library)
