"""Keras 3: wraps the calls of layers and models in place, and unwraps them."""

import functools
import gc
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any, Protocol

import keras

from .backends import supports_jit
from .functional import map_first_argument
from .host_calls import runs_eagerly
from .kept_traces import OwnTraces
from .layers import Probe
from .masks import own_mask
from .own_functions import OF_KERAS, forget_traces, tracing_anew
from .passes import ModelPasses
from .points import KerasPoint
from .probes import points_of

Call = Callable[..., object]


class Callee(Protocol):
    """A layer or a model of Keras. A quantised layer runs its ``quantized_call`` instead."""

    call: Any
    quantized_call: Any
    supports_jit: bool


def wrap(layer: Callee, places: dict[str, Probe], retrace_users: Callable[[], None]) -> None:
    """Capture the calls of a layer."""
    jit = layer.supports_jit

    def call(name: str, original: Call, *args: object, **kwargs: object) -> object:
        if name != _name_of_call(layer):  # called by the method that Keras runs
            return original(*args, **kwargs)
        # With Keras' mask, which what comes of a capture need not have.
        first = next(iter((*args, *kwargs.values())), None)
        if "before" in places:
            args, kwargs = map_first_argument(
                lambda x: places["before"].capture(x, lambda: own_mask(layer, x)), args, kwargs
            )
        result = original(*args, **kwargs)
        if "after" not in places:
            return result
        return places["after"].capture(result, lambda: own_mask(layer, first, result))

    # Keras runs the second one after quantize(), also if that comes later.
    names = "call", "quantized_call"
    restore = [_replace_call(layer, name, functools.partial(call, name)) for name in names]

    def unwrap() -> None:
        were_there = [each() for each in restore]
        if any(were_there):
            layer.supports_jit = jit
            retrace_users()

    layer.supports_jit = supports_jit() and jit
    for point in points_of({id(layer): places}):
        point.detach_with(unwrap)


def count_passes(
    model: Callee,
    passes: ModelPasses,
    points: Sequence[KerasPoint],
    retrace_users: Callable[[], None],
) -> None:
    """Count the passes of a model, until all points are detached."""
    attached, passes.traces = len(points), OwnTraces(model)
    were_taken = True  # the calls that functions of layers were traced in

    def call(original: Call, *args: object, **kwargs: object) -> object:
        nonlocal were_taken
        if not runs_eagerly():
            with tracing_anew(model):
                return passes.around(model, original, args, kwargs)
        if passes.take_call() != were_taken:
            were_taken = not were_taken
            forget_traces(model)
        return passes.around(model, original, args, kwargs)

    restore = _replace_call(model, "call", call)

    def leave() -> None:
        nonlocal attached
        attached -= 1
        if not attached and restore():
            retrace_users()

    for point in points:
        point.belong_to(passes)
        point.detach_with(leave)


class _Wrapper:
    """What a layer has in place of its call. ``before``: what was set at the layer itself."""

    def __init__(self, layer: Callee, name: str, call: Call) -> None:
        original = getattr(layer, name)
        functools.update_wrapper(self, original)  # also what another wrapper has
        self._call, self.is_over = functools.partial(call, original), False
        own: dict[str, object] = vars(layer)
        self.before = own.get(name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._call(*args, **kwargs)


def _replace_call(layer: Callee, name: str, call: Call) -> Callable[[], bool]:
    """Let a layer run ``call``, which is given its own one first, by the name of a method.

    Return a function that undoes it, and whether it was still to do. Calls that were replaced one
    after the other may be restored in any order.
    """
    wrapper = _Wrapper(layer, name, call)
    setattr(layer, name, wrapper)
    own: dict[str, object] = vars(layer)

    def restore() -> bool:
        was_there, wrapper.is_over = not wrapper.is_over, True
        while isinstance(top := own.get(name), _Wrapper) and top.is_over:
            delattr(layer, name)
            if top.before is not None:
                setattr(layer, name, top.before)
        return was_there

    return restore


def _name_of_call(layer: Callee) -> str:
    """Return the name of the method that Keras runs when a layer is called."""
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    return "quantized_call" if is_quantized else "call"


def traced_users(layers: Sequence[Any]) -> list[Any]:
    """Return all models of the program that contain one of these layers, and were traced.

    Only the garbage collector knows them all: a layer does not know the models that it is in.
    """
    # Of a million objects, so without a loop in Python; by identity, since types may refuse a hash.
    there, kinds = gc.get_objects(), {*map(id, _kinds_of(keras.Model))}
    found = compress(there, map(kinds.__contains__, map(id, map(type, there))))
    wanted = {id(layer) for layer in layers}
    return [
        model
        for model in found
        if any(getattr(model, name, None) is not None for name in _TRACED)
        and not wanted.isdisjoint(map(id, model._flatten_layers()))
    ]


def _kinds_of(kind: type) -> set[type]:
    return {kind}.union(*map(_kinds_of, kind.__subclasses__()))


_OF_HUB = "generate_function"  # of KerasHub, which makes it where it is None
_TRACED = (*OF_KERAS, _OF_HUB)


def retrace(models: Iterable[weakref.ref[Any]]) -> None:
    """Rebuild traced functions, which would ignore the change. A running fit() keeps its own."""
    for reference in models:
        model = reference()
        if model is None:
            continue
        _update_jit_setting(model)
        _forget_steps(model)
        forget_traces(model)
        for name in OF_KERAS:
            if getattr(model, name, None) is not None:
                getattr(model, f"make_{name}")(force=True)
        if _OF_HUB in vars(model) and hasattr(model, f"make_{_OF_HUB}"):
            setattr(model, _OF_HUB, None)


def _forget_steps(model: Any) -> None:
    """Let JAX trace the steps of a model anew.

    It takes a new function of model.train_step for an old one that something keeps: a variable, or
    the traceback of a fit() that failed.
    """
    if keras.backend.backend() == "jax" and isinstance(model, keras.Model):
        import jax

        for step in (model.train_step, model.test_step):
            as_keras_makes_it: Any = jax.jit(step, donate_argnums=0)
            as_keras_makes_it.clear_cache()


def _update_jit_setting(model: Any) -> None:
    """Disable XLA while a captured layer cannot be compiled, and restore it afterwards."""
    if not isinstance(model, keras.Model):
        return
    supported = all(layer.supports_jit for layer in model._flatten_layers())
    if supported and model in _jit_before:
        model._jit_compile = _jit_before.pop(model)
    elif not supported and model._jit_compile is not False:
        _jit_before[model] = model._jit_compile
        model._jit_compile = False


# The former value of jit_compile: True, or None if Keras had not resolved it.
_jit_before: "weakref.WeakKeyDictionary[Any, bool | None]" = weakref.WeakKeyDictionary()
