"""Keras 3: which calls of a model are captured: those of training, or those of evaluation."""

import sys
from collections.abc import Iterator
from types import FrameType

import keras
from keras.layers import Layer

from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu.errors import NotCapturable


def check_available(options: CaptureOptions, model: object = None) -> None:
    """Raise an error for a ``when`` or a ``batch_axis`` that is not available in Keras.

    ``model``: the one that is captured, if it is known.
    """
    if options.batch_axis != 0:
        raise NotCapturable(
            f"batch_axis={options.batch_axis} is not for Keras, whose inputs lie along axis 0"
        )
    if callable(options.when):
        raise NotCapturable(
            "when= as a function is not for Keras, whose graphs do not call it in each pass: "
            'when="train" and when="eval" are available'
        )
    if options.when is not None and not getattr(model, "_call_has_training_arg", True):
        raise NotCapturable(
            f"when={options.when!r} is not available for {type(model).__name__}: its call() has no "
            "argument training, so nothing tells in which mode it is"
        )


def takes_call(options: CaptureOptions) -> bool:
    """Return whether the running call of a model is captured.

    Graphs are made for each value of ``training``, so this is decided while one is made.
    """
    return options.when is None or in_training() == (options.when == "train")


def in_training() -> bool:
    """Return whether the outermost call of a layer is in training. Without the argument it is not.

    Not that of an inner one: frozen parts of a model are called with training=False in training.
    """
    return bool(training_argument())


def kind_of_pass(model: object, *, in_graph: bool) -> str | None:
    """Return what makes the running call: TRAINING, EVALUATION or NEITHER; None if nothing tells.

    All that train_step() runs is training, also in evaluation mode, and what test_step() runs is
    evaluation. What callbacks call is neither, but for the steps that they cause, and a graph: it
    is made once, and others may run it, too. Apart from these, the ``training`` argument tells,
    where a model has it.
    """
    step = None
    for frame in _frames():
        if _is_step(frame):
            step = frame.f_code.co_name
        elif frame.f_code.co_name[:3] == "on_" and frame.f_globals.get("__name__") == _CALLBACKS:
            return _KINDS.get(step, None if in_graph else NEITHER)
    if step is not None:
        return _KINDS[step]
    training = training_argument() if getattr(model, "_call_has_training_arg", False) else None
    return None if training is None else TRAINING if training else EVALUATION


def _is_step(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_name not in _KINDS or not code.co_argcount:
        return False
    return isinstance(frame.f_locals.get(code.co_varnames[0]), keras.Model)


def training_argument() -> bool | None:
    """Return the ``training`` argument of the outermost call of a layer; None if it has none."""
    calls = [frame for frame in _frames() if _is_call(frame)]
    given = calls[-1].f_locals["kwargs"].get("training") if calls else None
    return None if given is None else bool(given)


def _is_call(frame: FrameType) -> bool:
    return frame.f_code.co_name in _CALLS and frame.f_globals.get("__name__") == _LAYER


def _frames() -> Iterator[FrameType]:
    """Yield the frames of this thread, the outermost last."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


TRAINING, EVALUATION, NEITHER = "training", "evaluation", "neither"
_KINDS: dict[str | None, str | None] = {
    "train_step": TRAINING,
    "test_step": EVALUATION,
    "predict_step": NEITHER,
}
_CALLBACKS = keras.callbacks.CallbackList.__module__
_LAYER = Layer.__module__
_CALLS = {"__call__", "stateless_call"}  # the second on JAX
