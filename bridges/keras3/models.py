"""Keras 3: models with capture points at their layers, and without them again."""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import keras

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu.errors import NotCapturable

from .backends import supports_jit
from .functional import (
    Probes,
    children,
    functional_layers,
    is_functional,
    with_captures,
    with_input,
    without_captures,
)
from .layers import KerasPoint, Probe, StateCapture

METHODS = {"before": ("before",), "after": ("after",), "both": ("before", "after")}
_SUFFIX = {"before": "_pre_states", "after": "_states"}


# ---- which layers, and their axes --------------------------------------------------------------


def layers(model: Any) -> list[tuple[str, Any]]:
    """Paths (``outer/inner``) and layers to choose from, or the model itself when it has none."""
    return list(_below(model, "")) or [(model.name, model)]


def _below(layer: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for child in children(layer):
        if not isinstance(child, (StateCapture, keras.layers.InputLayer)):
            yield prefix + child.name, child
            yield from _below(child, f"{prefix}{child.name}/")


def class_names(layer: Any) -> tuple[str, ...]:
    return (type(layer).__name__,)


def check_attachable(model: Any) -> None:
    """ValueError for a model whose layers are not known yet."""
    if not model.built and isinstance(model, keras.Sequential):
        raise NotCapturable("model is not built: call it once, or build() it")
    if not children(model):
        raise NotCapturable(f"{model.name} has no layers yet: call it once, or build() it")


def _check_layer(path: str, layer: Any) -> None:
    """ValueError for a layer whose calls lie inside jax.checkpoint."""
    mode = getattr(layer, "_remat_mode", None)
    if mode is not None and mode.mode is not None and keras.backend.backend() == "jax":
        raise NotCapturable(
            f"{path} was made in a keras.RematScope, where calls cannot be captured"
        )


_LAST = (
    *(keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding, keras.layers.RNN),
    *(keras.layers.Bidirectional, keras.layers.MultiHeadAttention, keras.layers.LayerNormalization),
)


def _axis_of(layer: Any) -> int | None:
    """1 where a layer's channels come first; None where it does not say."""
    if (data_format := getattr(layer, "data_format", None)) is not None:
        return 1 if data_format == "channels_first" else -1
    if isinstance(layer, (keras.layers.BatchNormalization, keras.layers.GroupNormalization)):
        axis: int = layer.axis
        return axis
    if isinstance(layer, _LAST):
        return -1
    return None


# ---- attaching ---------------------------------------------------------------------------------


def attach(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    method: str,
    options: CaptureOptions,
    there: Collection[str] = (),
) -> tuple[Any, list[CapturePoint]]:
    """A new model that shares layers and weights, with capture layers beside the chosen ones.

    A subclassed model cannot be taken apart: there the chosen layers' calls are wrapped, in place.
    A layer that is called in several places has one capture point, which sees every call.
    """
    if not is_functional(model):
        return model, attach_in_place(model, chosen, method, options, there)
    probes = _probes(chosen, method, options, there)
    try:
        missing = set(probes) - {id(layer) for layer in functional_layers(model)}
        if missing:
            names = [name for name, layer in chosen if id(layer) in missing]
            raise NotCapturable(
                f"{names} lie inside layers that cannot be taken apart; use capture(), which wraps "
                "their calls and unwraps them again"
            )
        twin = with_captures(model, probes)
    except BaseException:
        for probe in _all(probes):
            probe.point.intake.sink.give_up()
        raise
    _compile_as(twin, model)
    return twin, [probe.point for probe in _all(probes)]


def attach_in_place(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    method: str,
    options: CaptureOptions,
    there: Collection[str] = (),
) -> list[CapturePoint]:
    """Wrap the calls of the chosen layers; detach() unwraps them."""
    probes = _probes(chosen, method, options, there)
    for _, layer in chosen:
        if id(layer) in probes:
            _wrap(layer, probes[id(layer)], model)
    _retrace(model)
    return [probe.point for probe in _all(probes)]


def detach(points: Iterable[CapturePoint]) -> None:
    """Unwrap the calls that these points watch."""
    for point in points:
        if isinstance(point, KerasPoint):
            point.detach()


def remove(model: Any, points: Sequence[CapturePoint]) -> Any:
    """The model without its capture points: itself, or a new one without capture layers."""
    detach(points)
    if not is_functional(model):
        return model

    twin = without_captures(model, points)
    _compile_as(twin, model)
    return twin


def call_after_forward(model: Any, function: Callable[[], object]) -> Any:
    """Nothing to call: labels, which are to be forgotten then, are refused by KerasPoint."""
    return SimpleNamespace(remove=lambda: None)


def _probes(
    chosen: Sequence[tuple[str, Any]], method: str, options: CaptureOptions, there: Collection[str]
) -> Probes:
    """Layer id -> place -> probe."""
    probes: Probes = {}
    try:
        for path, layer in chosen:
            _check_layer(path, layer)
            for place in METHODS[method]:
                name = path + _SUFFIX[place]
                known = place in probes.get(id(layer), {})  # by another path
                if name in (probe.point.name for probe in _all(probes)) and not known:
                    raise ValueError(f"two of the chosen layers are called {path!r}: rename one")
                if name not in there and not known:
                    probe = Probe(KerasPoint(name, options=_options_at(layer, options)))
                    probes.setdefault(id(layer), {})[place] = probe
                    _check_symbols(probe, _known_symbols(layer, place))
    except BaseException:
        for probe in _all(probes):
            probe.point.intake.sink.give_up()
        raise
    return probes


def _options_at(layer: Any, options: CaptureOptions) -> CaptureOptions:
    """The options of a layer's capture point: with the layer's own axis, if the user gave none."""
    axis = _axis_of(layer)
    if axis is None or options.neuron_axis is not None:
        return options
    return dataclasses.replace(options, neuron_axis=axis)


def _check_symbols(probe: Probe, symbols: list[Any]) -> None:
    """TypeError or ValueError where a layer is known to pass nothing that can be captured."""
    for number, symbol in enumerate(symbols, 1):
        try:
            probe.check(symbol)
        except (TypeError, ValueError):
            if number == len(symbols):
                raise
        else:
            return  # other calls may belong to other models


def _known_symbols(layer: Any, place: str) -> list[Any]:
    """What goes into a layer, or comes out, in each of its calls that left a trace."""
    ends = "input_tensors" if place == "before" else "output_tensors"
    called = [getattr(node, ends) for node in layer._inbound_nodes]
    if called:
        return [tensors[0] for tensors in called if tensors]
    shapes = list((layer._build_shapes_dict or {}).values())
    try:
        shape = shapes[0] if place == "before" else layer.compute_output_shape(*shapes)
        return [keras.KerasTensor((None, *shape[1:]))]
    except Exception:  # many a layer does not say, or says more than one shape
        return []


def _all(probes: Probes) -> Iterator[Probe]:
    for places in probes.values():
        yield from places.values()


def _compile_as(twin: Any, model: Any) -> None:
    """Compile as another model was, with the same optimizer, which goes on from where it is."""
    if not model.compiled:
        return
    config = {**model._compile_config.config, "optimizer": model.optimizer}
    if keras.backend.backend() != "jax" and config["jit_compile"]:
        config["jit_compile"] = "auto"  # what Keras made of "auto" there: a capture goes without
    twin.compile(**config)


# ---- wrapping calls ----------------------------------------------------------------------------


def _wrap(layer: Any, places: dict[str, Probe], model: Any) -> None:
    original, own = layer.call, layer.__dict__.get("call")

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "before" in places:
            args, kwargs = with_input(places["before"].see, args, kwargs)
        result = original(*args, **kwargs)
        return places["after"].see(result) if "after" in places else result

    jit = layer.supports_jit

    def undo() -> None:
        if layer.__dict__.get("call") is call:
            del layer.call
            if own is not None:
                layer.call = own
            layer.supports_jit = jit
            _retrace(model)

    layer.call = call
    layer.supports_jit = supports_jit() and jit
    for probe in places.values():
        assert isinstance(probe.point, KerasPoint)
        probe.point.detach_with(undo)


def _retrace(model: Any) -> None:
    """Make anew what was traced: it would go on as before. A fit() that is under way goes on."""
    _choose_jit(model)
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            getattr(model, f"make_{name}")(force=True)


def _choose_jit(model: Any) -> None:
    """Go without XLA while one of the layers is captured where that cannot be compiled."""
    if not isinstance(model, keras.Model):
        return
    supported = all(layer.supports_jit for layer in model._flatten_layers())
    if supported and model in _jit_before:
        model._jit_compile = _jit_before.pop(model)
    elif not supported and model._jit_compile is not False:
        _jit_before[model] = model._jit_compile
        model._jit_compile = False


# What jit_compile was: True, or None where Keras has not been asked for it.
_jit_before: "weakref.WeakKeyDictionary[Any, bool | None]" = weakref.WeakKeyDictionary()
