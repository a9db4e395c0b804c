"""Exceptions to catch by name. Each is also the built-in error that Python users expect.

Errors in arguments are plain TypeError and ValueError, and name the argument. All others derive
from TensorStateError, so that one ``except`` clause can tell them from errors of other libraries.

Examples
--------
>>> import tensorstate_gpu as ts
>>> try:
...     ts.CapturePoint("layer").entropy()
... except ts.errors.NothingCaptured:
...     print("run the model first")
run the model first
"""

__all__ = [
    "DamagedStore",
    "LabelsMissing",
    "LedgerError",
    "NoCapturePoints",
    "NoLayerMatches",
    "NoStore",
    "NotCapturable",
    "NothingCaptured",
    "RowsNotKept",
    "StoreClosed",
    "StoreInUse",
    "TensorStateError",
    "UnknownFormat",
]


class TensorStateError(Exception):
    """The base of all exceptions of this package."""


# ---- capturing ---------------------------------------------------------------------------------


class NoLayerMatches(TensorStateError, ValueError):
    """``attach_to`` matches no layer of the model; the message lists those there are."""


class NotCapturable(TensorStateError, ValueError):
    """A model, or a layer of it, cannot be captured as it is: compiled, scripted, distributed."""


class NoCapturePoints(TensorStateError, ValueError):
    """A model has no capture points."""


# ---- reading -----------------------------------------------------------------------------------


class NothingCaptured(TensorStateError, ValueError):
    """A layer is measured before any of its states were captured."""


class RowsNotKept(TensorStateError, ValueError):
    """Single states are asked for where only counts were kept (``keep="counts"``)."""


class LabelsMissing(TensorStateError, ValueError):
    """Results by label are asked for, and some inputs were captured without one."""


class LedgerError(TensorStateError, RuntimeError):
    """As many rows as were captured are not there: a bug, and no number is given."""


# ---- stores ------------------------------------------------------------------------------------


class NoStore(TensorStateError, ValueError):
    """There is no store at a path."""


class DamagedStore(TensorStateError, ValueError):
    """A file of a store is missing, or is not what was committed; the message names it."""


class UnknownFormat(TensorStateError, ValueError):
    """A store was written in a format that this version does not read."""


class StoreInUse(TensorStateError, ValueError):
    """Another writer has the store open: a store has one writer at a time."""


class StoreClosed(TensorStateError, RuntimeError):
    """A store takes no more rows: it was closed or deleted, or belongs to another process."""
