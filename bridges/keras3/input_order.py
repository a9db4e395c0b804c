"""Keras 3: whether the inputs of a batch are in the order in which they were given."""

import sys
from types import FrameType


def is_shuffled() -> bool:
    """Return whether fit() runs now, in any thread, and shuffles its inputs.

    Graphs call back in threads of their own. Datasets and generators are shuffled as they please.
    """
    return any(map(_in_shuffling_fit, sys._current_frames().values()))


def _in_shuffling_fit(top: FrameType) -> bool:
    frame: FrameType | None = top
    while frame is not None:
        if frame.f_code.co_name == "fit" and _is_of_trainer(frame):
            return bool(frame.f_locals.get("shuffle", True))
        frame = frame.f_back
    return False


def _is_of_trainer(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module.startswith("keras.src.backend.") and module.endswith(".trainer")
