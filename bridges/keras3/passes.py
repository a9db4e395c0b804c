"""Keras 3: ModelPasses counts the passes of a model, and has the mask of the one that runs."""

import functools
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.pass_log import PassLog
from tensorstate_gpu._capturing.pass_notes import Mask, validated_mask
from tensorstate_gpu._capturing.pass_times import PassTimes

from .host_calls import runs_eagerly, tell_of_call
from .input_order import InputOrder, order_of_this_call
from .tensors import axes_of, first_tensor
from .this_call import in_symbolic_call, is_uncounted
from .training_mode import is_training_pass, takes_call


class Symbol(Protocol):
    """A symbolic tensor of Keras."""

    name: str


class LayerPasses(PassLog):
    """In how many passes of a model a layer ran."""

    def of_later_call(self) -> "LayerPasses":
        """Return the log of another call of the layer, in which it has not run yet."""
        log = LayerPasses(self._times)
        log._begun_before, log._left_out = self._begun_before, self._left_out
        return log


class _OfThread(threading.local):
    """The times of the pass that a thread has begun last, and of the one that it makes now."""

    begun: int | None = None
    running: int | None = None


class ModelPasses:
    """The passes of a model that are captured.

    Backends tell of them whenever they execute the model, in its order: its ``clock`` is that of
    the batch that arrives. ``inputs``: how many the pass that runs has, where the tensors that the
    model is given agree. ``mask``: (inputs, positions) of that pass, if the options name
    an argument of the model for it. ``are_inputs_shuffled``: whether fit() has shuffled the inputs
    of that pass. ``wants_training``: whether passes of the training are wanted, or others, where it
    is known which of both a pass is; None for all.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self.times = PassTimes()
        self.inputs: int | None = None
        self.mask: Mask | None = None
        self.wants_training: bool | None = None
        self.are_inputs_shuffled = False
        self._in_training: bool | None = None  # None if nothing tells
        self._here = _OfThread()
        self._options = options

    @property
    def clock(self) -> int:
        """The time of the pass that runs, or the time after it."""
        return self.times.latest

    @property
    def is_running(self) -> bool:
        """Whether a pass has begun, and neither ended nor is known to have failed."""
        return self.clock % 2 == 1 and not self.times.is_over(self.clock)

    @property
    def clock_of_graph(self) -> int | None:
        """The time of the pass that runs, for a graph that is executed; None outside of passes."""
        return self.clock if self.is_running else None

    @property
    def clock_of_thread(self) -> int | None:
        """The time of the pass that this thread makes without a graph; None outside of those."""
        return self._here.running

    @property
    def is_wanted(self) -> bool:
        """Whether the pass that runs is."""
        return None in (self.wants_training, self._in_training) or (
            self.wants_training == self._in_training
        )

    def around(
        self,
        model: object,
        call: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Call a model, and count the pass whenever a backend executes it."""
        tensor = first_tensor((args, kwargs))
        if not self._counts(tensor):
            return call(*args, **kwargs)
        name = self._options.mask
        mask = argument(model, name, args, kwargs) if isinstance(name, str) else None
        sizes = _sizes_of_inputs((args, kwargs))
        told = [size for size in sizes if size is not None and not isinstance(size, int)]
        known = {size for size in sizes if size is None or isinstance(size, int)}
        # On JAX and TensorFlow, a graph begins passes later, in threads of its own.
        about = is_training_pass(model), order_of_this_call(), known, len(told)
        begin = functools.partial(self._begin, *about)
        values = [*told, *([] if mask is None else [mask])]
        return tell_of_call(begin, self._end, tensor, values, lambda: self._run(call, args, kwargs))

    def _run(
        self, call: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if not runs_eagerly():  # it is only traced, perhaps while another pass runs
            return call(*args, **kwargs)
        before, self._here.running = self._here.running, self._here.begun
        try:
            return call(*args, **kwargs)
        except BaseException:
            self.times.note_over(self.clock)
            raise
        finally:
            self._here.running = before

    def _counts(self, tensor: object) -> bool:
        if tensor is None or in_symbolic_call(tensor):
            return False
        return takes_call(self._options) and not is_uncounted()

    def _begin(
        self,
        mode: bool | None,
        order: InputOrder,
        known: set[int | None],
        told: int,
        *values: NDArray[np.generic],
    ) -> None:
        """Begin a pass.

        ``known``: sizes of axis 0 of what the model is given; ``told``: how many more come before
        the mask, if there is one.
        """
        self._in_training, self.are_inputs_shuffled = mode, order.is_shuffled
        self.times.fail(self.clock)  # unless it has ended
        self._here.begun = self.times.begin()
        sizes = known.union(map(int, values[:told]))
        self.inputs = next(iter(sizes)) if len(sizes) == 1 else None
        mask = next(iter(values[told:]), None)
        self.mask = validated_mask(mask) if mask is not None and mask.ndim == 2 else None

    def _end(self) -> None:
        self.times.end(self.clock)
        self.mask = None


def _sizes_of_inputs(given: object) -> list[Any]:
    """Return the sizes of axis 0 of all tensors that a model is given, one after the other.

    Tensors, where the graph of TensorFlow does not know the sizes; None for one of unknown axes.
    """
    tensors = [each for each in keras.tree.flatten(given) if axes_of(each)]
    return [_size_of_axis_0(tensor) for tensor in tensors]


def _size_of_axis_0(tensor: Any) -> Any:
    if getattr(tensor.shape, "rank", 1) is None:
        return None
    size = tensor.shape[0]
    return keras.ops.shape(tensor)[0] if size is None else size


def argument(
    model: object, name: str, args: Sequence[object], kwargs: Mapping[str, object]
) -> object:
    """Return what a call of a model passes as an argument, or as an input of that name."""
    names = input_names(model)
    if name in kwargs and name not in names:  # Keras passes a ``mask`` of its own, too
        return kwargs[name]
    if args and isinstance(args[0], dict):
        inputs: dict[str, object] = args[0]
        return inputs.get(name)
    if args and name in names:
        given: list[object] = keras.tree.flatten(args[0])
        return given[names.index(name)] if len(given) == len(names) else None
    parameters = list(inspect.signature(getattr(type(model), "call")).parameters)[1:]  # noqa: B009
    place = parameters.index(name) if name in parameters else len(args)
    return args[place] if place < len(args) else None


def check_mask(model: Any, name: object) -> None:
    """Raise ValueError if ``mask`` names no input of a functional model.

    Others may take a dict of inputs, whose keys nothing tells.
    """
    names = input_names(model)
    if isinstance(name, str) and names and name not in names:
        raise ValueError(f"mask: {model.name} has no input {name!r}; there are {', '.join(names)}")


def input_names(model: object) -> list[str]:
    """Return the names of the inputs of a functional model."""
    inputs: list[Symbol] = getattr(model, "inputs", None) or []
    return [tensor.name for tensor in inputs]
