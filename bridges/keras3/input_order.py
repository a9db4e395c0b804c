"""Keras 3: whether the inputs of a batch are in the order in which they were given.

Graphs call back in threads of their own, where nothing tells which fit() runs. What does is the
call stack of the thread that fits, and only that thread looks at it: while a graph is made, and
whenever fit() calls Keras' function of a training step. Stacks of other threads that run cannot be
walked safely (CPython 3.11 crashed).
"""

import sys
from types import FrameType
from typing import Any

import keras

from .host_calls import runs_eagerly


class InputOrder:
    """Whether fit() has shuffled the inputs that arrive now, by eager calls or by a graph."""

    def __init__(self, *, is_shuffled: bool = False) -> None:
        self.is_shuffled = is_shuffled

    def note(self, *, is_shuffled: bool) -> None:
        """Note it for what runs from now on."""
        if is_shuffled != self.is_shuffled and keras.backend.backend() == "jax":
            import jax

            jax.effects_barrier()  # type: ignore[no-untyped-call]  # the passes before
        self.is_shuffled = is_shuffled


def order_of_this_call() -> InputOrder:
    """Return the order of the inputs of the call that is made, or put into a graph, by this thread.

    What fit() or one of its callbacks evaluates is in the order in which it was given.
    """
    trainer, is_shuffled = _training_of_this_call()
    if trainer is None or runs_eagerly():
        return InputOrder(is_shuffled=is_shuffled)
    function = trainer.train_function
    if not isinstance(function, _TrainFunction):
        function = trainer.train_function = _TrainFunction(function)
    function.order.is_shuffled = is_shuffled
    return function.order


class _TrainFunction:
    """Keras' function of a training step; it notes whether the fit() that calls it shuffles."""

    def __init__(self, function: Any) -> None:
        self._function, self.order = function, InputOrder()

    def __call__(self, *args: Any) -> Any:
        caller = sys._getframe(1)
        self.order.note(is_shuffled=_is_of_trainer(caller, "fit") and _shuffles(caller))
        return self._function(*args)


def _training_of_this_call() -> tuple[Any, bool]:
    """Return the model that a function of Keras trains in this thread, and whether it shuffles."""
    frame: FrameType | None = sys._getframe(1)
    stepping = trainer = None
    while frame is not None and not _has_other_inputs(frame):
        if frame.f_code.co_name == "train_step" and (model := _model_of(frame)) is not None:
            stepping = model
        elif _is_of_trainer(frame, "fit"):
            return _model_of(frame), _shuffles(frame)
        elif _is_of_trainer(frame, "train_on_batch"):
            return _model_of(frame), False
        elif stepping is not None and frame.f_globals.get("__name__") == _REPLICA:
            return stepping, True  # fit(), which shuffles by default, waits in another thread
        elif stepping is not None and _is_of_trainer(frame):
            trainer = stepping  # by its train function, which fit() may call later
        frame = frame.f_back
    return trainer, False


def _has_other_inputs(frame: FrameType) -> bool:
    """Return whether what a function of Keras calls has inputs other than those of fit() around."""
    if str(frame.f_globals.get("__name__")).startswith(_OTHERS):
        return True
    if frame.f_code.co_name not in _EVALUATIONS or _model_of(frame) is None:
        return False
    # A method of the user's may have such a name too; but fit() calls the one that evaluates.
    caller = frame.f_back
    return _is_of_trainer(frame) or (caller is not None and _is_of_trainer(caller, "fit"))


_OTHERS = (
    "keras.src.callbacks.callback_list",
    "keras.src.trainers.epoch_iterator",
    "keras.src.trainers.data_adapters.",
)
_REPLICA = "tensorflow.python.distribute.mirrored_run"
_EVALUATIONS = {"evaluate", "predict", "test_on_batch", "predict_on_batch"}


def _model_of(frame: FrameType) -> Any:
    """Return the model whose method a frame is of, or None."""
    code = frame.f_code
    owner: object = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return owner if isinstance(owner, keras.Model) else None


def _is_of_trainer(frame: FrameType, function: str | None = None) -> bool:
    if function not in (None, frame.f_code.co_name):
        return False
    module = str(frame.f_globals.get("__name__"))
    return module.startswith("keras.src.backend.") and module.endswith(".trainer")


def _shuffles(fit: FrameType) -> bool:
    """Return whether a fit() shuffles: arrays, or the batches of a finite PyDataset.

    Others, as generators and datasets of the backends, have an order of their own, which they may
    shuffle themselves.
    """
    adapter: Any = getattr(fit.f_locals.get("epoch_iterator"), "data_adapter", None)
    if hasattr(adapter, "py_dataset"):
        return bool(adapter.shuffle) and adapter.num_batches is not None
    return bool(getattr(adapter, "_shuffle", False))
