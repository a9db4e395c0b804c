"""Follows what the control flow of torch runs: ``torch.cond``, ``while_loop``, ``scan``, ``map``.

Outside of compiled graphs, such functions compile what they run. Where a pass is followed, nothing
is compiled, and they run it without gradients, or fail. Their kernels for plain tensors do what
the functions mean.
"""

from types import FrameType
from typing import Any

import torch
from torch._C import DispatchKey
from torch._ops import HigherOrderOperator

_CONTROL_FLOW = {"cond", "while_loop", "map_impl", "scan", "associative_scan", "invoke_subgraph"}


def runs_branches(function: Any) -> bool:
    """Return whether a torch function is control flow, whose kernel runs Python functions."""
    return isinstance(function, HigherOrderOperator) and str(function) in _CONTROL_FLOW


def runs_plainly() -> bool:
    """Return whether nothing looks at what runs, or changes it: no trace, no vmap, no fake mode."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def run_eagerly(function: Any, args: Any, kwargs: Any) -> Any:
    """Run control flow as Python runs it: what it calls is followed, and has gradients."""
    kernel = function.py_kernels.get(DispatchKey.CompositeExplicitAutograd)
    return (kernel or function)(*args, **kwargs)


def asks_for_branches(frame: FrameType) -> bool:
    """Return whether a frame is of a call of control flow, before it has run anything."""
    return frame.f_code is _CALL and runs_branches(frame.f_locals["self"])


_CALL = HigherOrderOperator.__call__.__code__


def is_in_branch() -> bool:
    """Return whether the graph that is made now is one that control flow runs, or within such.

    Called by code that is compiled; the result is a constant of the graph.
    """
    try:
        from torch._dynamo.symbolic_convert import InstructionTranslator

        tracer: Any = InstructionTranslator.current_tx().output.current_tracer
        while tracer is not None:
            if runs_branches(tracer.source_target):
                return True
            tracer = tracer.parent
    except Exception:  # later versions may have other names: torch then says what it refuses
        return False
    return False


# As for axes_in_graph().
is_in_branch._dynamo_marked_constant = True  # type: ignore[attr-defined]
