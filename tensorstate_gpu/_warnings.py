"""Warnings that point to the line of the user's program that has led to them."""

import sys
import types
import warnings

# Libraries between a line of the user and a warning, by the names of their modules.
_LIBRARIES = {
    *("tensorstate_gpu", "torch", "keras", "tensorflow", "jax", "torchvision", "timm"),
    *("transformers", "lightning", "pytorch_lightning", "accelerate"),
    *("contextlib", "concurrent", "threading"),
}


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the line of the user's program that has led here.

    That is the innermost line outside this package and the frameworks. A thread of a framework has
    none, and the warning points to ``sys`` there.
    """
    # Python 3.12 can skip files by itself (skip_file_prefixes); 3.11 cannot.
    level = 1
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and _is_of_library(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_of_library(frame: types.FrameType) -> bool:
    module: object = frame.f_globals.get("__name__")  # code that torch generates has none
    return module is None or str(module).partition(".")[0] in _LIBRARIES
