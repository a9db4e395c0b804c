"""Keras 3: ModelPasses counts the passes of a model, and knows what each thread runs."""

import functools
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.pass_log import PassLog
from tensorstate_gpu._capturing.pass_notes import Mask, validated_mask
from tensorstate_gpu._capturing.pass_times import PassTimes

from .host_calls import may_call_host, runs_eagerly, tell_of_call
from .input_order import InputOrder, order_of_this_call
from .kept_traces import OwnTraces
from .tensors import axes_of, first_tensor
from .this_call import in_symbolic_call, is_uncounted
from .training_mode import EVALUATION, TRAINING, kind_of_pass, takes_call


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


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass of a model that has begun.

    ``inputs``: how many it has, where the tensors that the model is given agree. ``mask``: (inputs,
    positions), if the options name an argument of the model for it. ``is_shuffled``: whether fit()
    has shuffled the inputs. ``kind``: see kind_of_pass(). ``in_graph``: whether a graph makes it.
    """

    time: int
    inputs: int | None
    mask: Mask | None
    is_shuffled: bool
    kind: str | None
    in_graph: bool


class _OfThread(threading.local):
    """The pass that a thread has just begun, or ended, and the one that it makes now, eagerly.

    ``is_in_model``: whether it runs the model, or puts it into a graph.
    """

    begun: Pass | None = None
    ended: Pass | None = None
    running: Pass | None = None
    is_in_model = False


class ModelPasses:
    """The passes of a model that are captured.

    Backends tell of them whenever they execute the model, in its order. Threads that run it eagerly
    each know their own; the pass of a batch that a graph brings, in whatever thread, is the last
    one. ``wants_training``: whether passes of the training are wanted, or of the evaluation, where
    it is known what a pass is; None for all. ``traces``: those of JAX that are for this capture
    alone, where layers may be captured inside of functions that keep some.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self.times = PassTimes()
        self.wants_training: bool | None = None
        self.traces: OwnTraces | None = None
        self._latest: Pass | None = None
        self._here = _OfThread()
        self._options = options

    @property
    def of_thread(self) -> Pass | None:
        """The pass that this thread makes without a graph; None outside of those."""
        return self._here.running

    @property
    def is_in_model(self) -> bool:
        """Whether this thread runs the model, or puts it into a graph."""
        return self._here.is_in_model

    @property
    def latest(self) -> Pass | None:
        """The pass that has begun last."""
        return self._latest

    def of_graph(self, outside_of: Pass | None) -> Pass | None:
        """Return the pass of a batch that a graph brings; None outside of passes.

        ``outside_of``: a pass that the call is known not to belong to.
        """
        if (here := self._here.running) is not None:
            return here
        latest = self._latest
        if latest is None or latest is outside_of:
            return None
        runs = self.times.latest == latest.time and not self.times.is_over(latest.time)
        return latest if runs else None

    def wants(self, kind: str | None) -> bool:
        """Return whether passes of a kind are captured."""
        wanted = TRAINING if self.wants_training else EVALUATION
        return None in (self.wants_training, kind) or kind == wanted

    def take_call(self) -> bool:
        """Return whether the options let the running call be captured."""
        return takes_call(self._options)

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
        in_graph = not runs_eagerly()
        kind, order = kind_of_pass(model, in_graph=in_graph), order_of_this_call()
        begin = functools.partial(self._begin, in_graph, kind, order, known, len(told))
        end = functools.partial(self._end, in_graph)
        values = [*told, *([] if mask is None else [mask])]
        run = functools.partial(self._run, in_graph, call, args, kwargs)
        return tell_of_call(begin, end, tensor, values, run)

    def _run(
        self,
        in_graph: bool,
        call: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        here = self._here
        before, here.is_in_model = (here.running, here.is_in_model), True
        if not in_graph:  # else it is only traced, perhaps while another pass runs
            here.running, here.begun = here.begun, None
        passed = here.running
        try:
            with nullcontext() if self.traces is None else self.traces.of_call(in_graph=in_graph):
                result = call(*args, **kwargs)
        except BaseException:
            if not in_graph and passed is not None:
                self.times.note_over(passed.time)
            raise
        finally:
            here.running, here.is_in_model = before
        here.ended = passed
        return result

    def _counts(self, tensor: object) -> bool:
        if tensor is None or in_symbolic_call(tensor):
            return False
        return self.take_call() and not is_uncounted() and may_call_host()

    def _begin(
        self,
        in_graph: bool,
        kind: str | None,
        order: InputOrder,
        known: set[int | None],
        told: int,
        *values: NDArray[np.generic],
    ) -> None:
        """Begin a pass.

        ``known``: sizes of axis 0 of what the model is given; ``told``: how many more come before
        the mask, if there is one.
        """
        graphs = self._latest if self._latest is not None and self._latest.in_graph else None
        for before in (graphs, self._here.begun, self._here.ended):
            if before is not None:
                self.times.fail(before.time)  # unless it has ended; nothing else tells
        sizes = known.union(map(int, values[:told]))
        inputs = next(iter(sizes)) if len(sizes) == 1 else None
        mask = next(iter(values[told:]), None)
        mask = validated_mask(mask) if mask is not None and mask.ndim == 2 else None
        begun = Pass(self.times.begin(), inputs, mask, order.is_shuffled, kind, in_graph)
        self._latest = begun
        if not in_graph:
            self._here.begun = begun

    def _end(self, in_graph: bool) -> None:
        ended = self._latest if in_graph else self._here.ended
        if ended is not None:
            self.times.end(ended.time)


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
