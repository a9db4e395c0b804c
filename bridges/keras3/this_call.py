"""Keras 3: what the call stack tells of the call of a layer that is being made."""

import sys
import weakref
from collections.abc import Mapping
from typing import Any

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope


def in_symbolic_call(tensor: Any) -> bool:
    """Return whether Keras only infers shapes: from symbols, or (on PyTorch) dummy batches."""
    return isinstance(tensor, keras.KerasTensor) or bool(in_symbolic_scope())


def is_uncounted() -> bool:
    """Return whether this call of a layer is an extra one, or makes a program for other processes.

    These are exports, where no capture point would be. TensorFlow repeats calls inside keras.remat
    to differentiate them, and to infer shapes, what keras.ops.map() maps. Recurrent layers call
    their cell to infer shapes (not on JAX); stacked cells also do so to set up dropout. On JAX,
    predict() calls a model that is not built yet once more, with its first batch.
    """
    frame, in_loop, callee = sys._getframe(), False, None
    while frame is not None:
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if (module or "").startswith(_EXPORTS):
            return True
        if function not in _TELLING:  # as most: a third of the time, where stacks have 50 frames
            callee, frame = module, frame.f_back  # type: ignore[assignment]
            continue
        if (module, function) in _RECOMPUTING_CALLS:
            return True
        if (module, function) in _BUILDING_CALLS and callee == _LAYER_CALL:
            return True
        callee = module
        if module in _LOOPS and function == "_step":
            in_loop = True
        elif module in _LOOPS and function == "rnn":
            if not in_loop and not frame.f_locals["unroll"]:
                return True
            in_loop = False  # this layer may be inside the cell of another one
        frame = frame.f_back  # type: ignore[assignment]
    return False


_EXPORTS = ("keras.src.export.", "tensorflow.python.saved_model.save")
_LOOPS = ("keras.src.backend.tensorflow.rnn", "keras.src.backend.torch.rnn")
_RECOMPUTING_CALLS = {
    ("tensorflow.python.ops.custom_gradient", "inner_recompute_grad"),
    ("keras.src.layers.rnn.rnn", "_maybe_config_dropout_masks"),
    ("keras.src.backend.tensorflow.core", "get_fn_output_signature"),
}


_BUILDING_CALLS = {
    ("keras.src.backend.jax.trainer", "predict"),
    ("keras.src.backend.jax.trainer", "predict_on_batch"),
}
_TELLING = {"_step", "rnn"}.union(name for _, name in (*_RECOMPUTING_CALLS, *_BUILDING_CALLS))
_LAYER_CALL = "keras.src.utils.traceback_utils"  # what wraps Layer.__call__


def number_of_this_call(sites: Mapping[Any, int]) -> int:
    """Return the number of the call that is being made, by the innermost node that is known.

    ``sites``: the numbers of calls, by nodes of functional models.

    1 for a call from elsewhere: from a subclassed model, or of the layer alone.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_run_through_graph":
            number = sites.get(frame.f_locals.get("node"))
            if number is not None:
                return number
        frame = frame.f_back  # type: ignore[assignment]
    return 1


def place_of_this_call(*, in_graph: bool = False) -> object:
    """Return what calls of a layer have in common that are one call of its model; None if nothing.

    Those are the steps of a recurrent layer, and of TimeDistributed, and what a graph repeats.
    Loops such as ops.map() repeat code where no graph does: there it is the place in the code.
    """
    frame, loop = sys._getframe(), None
    path: list[int] = []  # where each function calls the next, from the inside out
    within: tuple[int, ...] = ()
    while frame is not None:
        path.append(frame.f_lasti)
        if (function := frame.f_code.co_name) in _REPEATING:  # most frames are not
            module = frame.f_globals.get("__name__")
            if module in _STEPPING and function in _STEPPING_FUNCTIONS:
                # Each call has a function of its own.
                loop, within = frame.f_locals.get("step_function", loop), ()
            elif not in_graph and (body := _BODIES.get((module, function))) is not None:
                loop, within = frame.f_locals[body], tuple(path)
        frame = frame.f_back  # type: ignore[assignment]
    if loop is None:
        return object() if in_graph else None
    place = weakref.ref(loop)
    hash(place)  # which it keeps when the loop is over
    return place, within


_STEPPING = (*_LOOPS, "keras.src.backend.jax.rnn", "keras.src.layers.rnn.time_distributed")
_STEPPING_FUNCTIONS = ("rnn", "call")
_TORCH_LOOPS = "keras.src.backend.torch.core"
# What loops that call it for each step repeat; map() calls scan().
_BODIES: dict[tuple[Any, str], str] = {
    (_TORCH_LOOPS, "scan"): "f",
    (_TORCH_LOOPS, "while_loop"): "body",
    (_TORCH_LOOPS, "fori_loop"): "body_fun",
    ("tensorflow.python.ops.while_loop", "while_loop"): "body",
}
_REPEATING = {*_STEPPING_FUNCTIONS, *(function for _, function in _BODIES)}
