"""Exceptions to catch by name; each is also a ValueError or RuntimeError.

Errors in arguments are plain TypeError and ValueError, and name the argument. All other exceptions
derive from TensorStateError, so one ``except`` clause catches those of this package only.

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
    "BatchAxisWarning",
    "DamagedStore",
    "GuessedAxisWarning",
    "InputsUnknown",
    "LabelsMissing",
    "LedgerError",
    "NoCapturePoints",
    "NoLayerMatches",
    "NoStore",
    "NotCapturable",
    "NothingCaptured",
    "OtherProcess",
    "PassesMissed",
    "RanksDisagree",
    "RowsLost",
    "RowsNotKept",
    "ShuffledInputsWarning",
    "SinkFailedWarning",
    "SkippedLayersWarning",
    "SliceOfNeurons",
    "StoreClosed",
    "StoreInUse",
    "StoresDisagree",
    "TensorStateError",
    "UnfinishedStore",
    "UnknownFormat",
    "UnmaskedLayerWarning",
    "UnmatchedNameWarning",
]


def __dir__() -> list[str]:
    """For completion in editors and notebooks."""
    return __all__


class TensorStateError(Exception):
    """Base class of all exceptions of this package."""


# TensorFlow's AutoGraph raises exceptions anew, with the code that raised them in the message. It
# keeps a type only if it has this very __init__; else ValueError's own would come first.
TensorStateError.__init__ = Exception.__init__  # type: ignore[method-assign]


# ---- capturing ---------------------------------------------------------------------------------


class NoLayerMatches(TensorStateError, ValueError):
    """``attach_to`` matches no layer of the model. The message lists the layers."""


class NotCapturable(TensorStateError, ValueError):
    """A model or layer cannot be captured in its current form: compiled, scripted, distributed."""


class NoCapturePoints(TensorStateError, ValueError):
    """The model has no capture points."""


class OtherProcess(TensorStateError, RuntimeError):
    """A forked process, such as a DataLoader worker, runs a model that its parent captures."""


# ---- reading -----------------------------------------------------------------------------------


class NothingCaptured(TensorStateError, ValueError):
    """A layer was measured before any of its states were captured."""


class PassesMissed(TensorStateError, RuntimeError):
    """A layer ran without its capture point in some passes: it has a part of its states only.

    The message says in how many passes, what has bypassed the capture point, and what to do.
    """


class RowsLost(TensorStateError, RuntimeError):
    """Rows of a layer have found no room in its stage (``stage_rows=``): it has not all batches.

    The message says how many rows, and what to do.
    """


class RanksDisagree(TensorStateError, ValueError):
    """Ranks have captured different layers or other neurons, or one has failed: nothing is merged.

    Every rank raises it, so that none waits for another.
    """


class SliceOfNeurons(TensorStateError, ValueError):
    """This rank has a slice of a layer's neurons only; Run.sync() joins the slices of all ranks."""


class RowsNotKept(TensorStateError, ValueError):
    """Individual states are needed, but only counts were kept (``keep="counts"``)."""


class LabelsMissing(TensorStateError, ValueError):
    """Results by label are needed, but some inputs were captured without a label."""


class InputsUnknown(LabelsMissing):
    """Some states of a layer belong to no known input, so the layer has no labels.

    A layer of experts sees tokens of several inputs in an order that nothing tells, for example.
    """


class LedgerError(TensorStateError, RuntimeError):
    """The number of rows differs from what was captured: a bug. No result is returned."""


class BatchAxisWarning(UserWarning):
    """What is taken for a model's inputs is steps of sequences for a layer; see ``batch_axis=``."""


class GuessedAxisWarning(UserWarning):
    """Nothing tells which axis of a layer's tensors holds the neurons; ``neuron_axis=`` does."""


class ShuffledInputsWarning(UserWarning):
    """Inputs are selected by their position, but Keras has shuffled them during training."""


class SinkFailedWarning(UserWarning):
    """What a StateMonitor logs to raised an error; training goes on without that chart."""


class UnmaskedLayerWarning(UserWarning):
    """A mask is missing, or does not apply to a layer: rows of padding are captured, too."""


class UnmatchedNameWarning(UserWarning):
    """A name is that of no layer or class of layers, or of no phase of a training."""


class SkippedLayersWarning(UserWarning):
    """Layers that ``attach_to`` matches are not captured: what they pass has no neurons."""


# ---- stores ------------------------------------------------------------------------------------


class NoStore(TensorStateError, ValueError):
    """There is no store at the path."""


class DamagedStore(TensorStateError, ValueError):
    """A file of a store is missing or is not what was committed. The message names the file."""


class UnknownFormat(TensorStateError, ValueError):
    """The store has a format that this version cannot read."""


class StoreInUse(TensorStateError, ValueError):
    """Another writer has the store open. A store has one writer at a time."""


class StoreClosed(TensorStateError, RuntimeError):
    """The store accepts no more rows: it is closed or deleted, or belongs to another process."""


class StoresDisagree(TensorStateError, ValueError):
    """Several stores cannot be read as one: they have other layers, neurons or thresholds.

    Or some have labels and others have none, or one of them is there twice.
    """


class UnfinishedStore(TensorStateError, ValueError):
    """A writer of one of several stores is still at work, or has not ended properly."""
