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

import sys
import types
import warnings

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
    """For completion in editors and notebooks: without the functions that warn."""
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


def warn_of_steps(batch_axis: int, *, one_sequence: bool) -> None:
    """Issue a BatchAxisWarning.

    ``batch_axis``: where inputs were taken to be. ``one_sequence``: of steps, without a batch axis.
    """
    if one_sequence:
        warn_user(
            "a recurrent or attention layer is given one sequence without a batch axis: each of "
            f"its steps (axis {batch_axis}) counts as an input; give the model a batch of them",
            BatchAxisWarning,
        )
        return
    warn_user(
        "a recurrent or attention layer with batch_first=False reads its inputs along axis 1, and "
        f"steps along what is taken for the model's inputs (axis {batch_axis}): if the model is "
        "given (steps, inputs, ...), batch_axis=1 sets it; else the layer needs batch_first=True, "
        "unless the layer is meant to look across inputs",
        BatchAxisWarning,
    )


def warn_of_unmasked(layers: list[str]) -> None:
    """Issue an UnmaskedLayerWarning that names the layers."""
    warn_user(
        f"the mask does not apply to {_listed(layers)}: all rows are captured",
        UnmaskedLayerWarning,
    )


def warn_of_no_mask(models: list[str]) -> None:
    """Issue an UnmaskedLayerWarning that names models of which a pass has no mask."""
    warn_user(
        f"no mask was given to {_listed(models)}: all rows are captured", UnmaskedLayerWarning
    )


def warn_of_guesses(layers: list[str]) -> None:
    """Issue a GuessedAxisWarning that names the layers."""
    warn_user(
        f"the neuron axis is a guess for {_listed(layers)}: neuron_axis= sets it",
        GuessedAxisWarning,
    )


def warn_of_contradicted(layers: list[str]) -> None:
    """Issue a GuessedAxisWarning that names the layers."""
    warn_user(
        "neurons lie along another axis than in earlier passes, or are not always as many; these "
        f"layers are left out of such passes: {_listed(layers)}; neuron_axis= sets the axis",
        GuessedAxisWarning,
    )


def warn_of_skipped(layers: list[str]) -> None:
    """Issue a SkippedLayersWarning that names the layers."""
    warn_user(
        f"these layers pass nothing that has neurons, and are skipped: {_listed(layers)}",
        SkippedLayersWarning,
    )


def warn_of_later_calls(layers: list[str]) -> None:
    """Issue a SkippedLayersWarning that names the layers."""
    warn_user(
        "these layers are called several times in a pass, and earlier passes did not show it: with "
        "stage_rows=, only their first call is captured, or all with merge_calls=True: "
        + _listed(layers),
        SkippedLayersWarning,
    )


def warn_of_indices(points: list[str]) -> None:
    """Issue a SkippedLayersWarning that names the capture points that there are not."""
    warn_user(
        "the inputs of embeddings are indices, which have no neurons, and are not captured: "
        + _listed(points),
        SkippedLayersWarning,
    )


def warn_of_shuffled(layer: str) -> None:
    """Issue a ShuffledInputsWarning that names the layer."""
    warn_user(
        f"{layer}: fit() has shuffled the inputs, so their positions and labels do not belong to "
        "the states; pass shuffle=False to fit(), or capture predict()",
        ShuffledInputsWarning,
    )


def warn_of_shared_calls(layer: str) -> None:
    """Issue a warning that names a layer whose inputs may be counted several times."""
    warn_user(
        f"{layer}: several calls in a pass share this capture point, and each counts its inputs; "
        "if they are the same, errors and intervals are too small: run.labels(units=...) tells "
        "which belong together"
    )


def _listed(layers: list[str], shown: int = 10) -> str:
    more = f" and {len(layers) - shown} more" if len(layers) > shown else ""
    return ", ".join(layers[:shown]) + more


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
