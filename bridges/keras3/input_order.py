"""Keras 3: whether the inputs of a batch are in the order in which they were given."""

import sys
from types import FrameType

import keras


def is_shuffled(in_training: bool | None = True) -> bool:
    """Return whether fit() runs now, and shuffles the inputs of the running pass.

    ``in_training``: whether that pass is one of training; None if nothing tells. What fit() or one
    of its callbacks evaluates is in the order in which it was given.

    Graphs call back in threads of their own, so that fit() may be in any. On PyTorch there are
    none: it is in this one. Datasets and generators are shuffled as they please.
    """
    if in_training is False:
        return False
    by_callback = in_training is None
    if keras.backend.backend() == "torch":
        return _in_shuffling_fit(sys._getframe(), by_callback)
    return any(_in_shuffling_fit(top, by_callback) for top in sys._current_frames().values())


def _in_shuffling_fit(top: FrameType, by_callback: bool) -> bool:
    """Return whether a thread is in a fit() that shuffles.

    ``by_callback``: whether a callback of fit() that runs now may be what calls the model. JAX runs
    batches of the training beside callbacks, so that the stack alone does not tell.
    """
    frame: object = top
    # Of a thread that runs on, CPython 3.11 may say that something else called a function.
    while isinstance(frame, FrameType):
        if by_callback and frame.f_globals.get("__name__") == _CALLBACKS:
            return False
        if frame.f_code.co_name == "fit" and _is_of_trainer(frame):
            return bool(frame.f_locals.get("shuffle", True))
        frame = frame.f_back
    return False


def _is_of_trainer(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module.startswith("keras.src.backend.") and module.endswith(".trainer")


_CALLBACKS = "keras.src.callbacks.callback_list"
