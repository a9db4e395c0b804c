"""Keras 3: attaches capture points to models and removes them."""

import functools
import weakref
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import keras

from tensorstate_gpu._capturing.attachment import release_names
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.sampling import Sampler
from tensorstate_gpu.errors import NotCapturable

from .backends import check_distribution
from .functional import (
    Probes,
    children,
    functional_layers,
    is_functional,
    list_new_points,
    with_captures,
    without_captures,
)
from .inner_calls import note_axes_in_code
from .layers import StateCapture
from .passes import ModelPasses, check_mask
from .points import KerasPoint
from .probes import Wanted, new_probes, points_of
from .training_mode import check_available
from .wrapped_calls import count_passes, retrace, traced_users, wrap

METHODS = {"before": ("before",), "after": ("after",), "both": ("before", "after")}
_SUFFIX = {"before": "_pre_states", "after": "_states"}


# ---- layers --------------------------------------------------------------------------------------


def layers(model: Any) -> list[tuple[str, Any]]:
    """Return paths (``outer/inner``) and layers to choose from; a model without layers, itself."""
    return list(_walk_layers(model, "")) or [itself(model)]


def _walk_layers(layer: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for child in children(layer):
        if not isinstance(child, (StateCapture, keras.layers.InputLayer)):
            yield prefix + child.name, child
            yield from _walk_layers(child, f"{prefix}{child.name}/")


def all_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the layers that ``"*"`` stands for: not the parts of a layer that works as a whole.

    Those are the cell of a recurrent layer, for example, or the projections of an attention: a
    functional model cannot be taken apart there, and Keras does not call all of them.
    """
    if is_functional(model):
        apart = {id(layer) for layer in functional_layers(model)}
    else:
        apart = {id(layer) for layer in _outside_of_kerass(model)}
    return [(name, layer) for name, layer in layers(model) if id(layer) in apart]


def _outside_of_kerass(layer: Any) -> Iterator[Any]:
    """Yield layer by layer what is not inside of a layer of Keras, but for its models."""
    for child in children(layer):
        yield child
        if not is_of_keras(child) or isinstance(child, keras.Model):
            yield from _outside_of_kerass(child)


def is_of_keras(layer: object) -> bool:
    return type(layer).__module__.startswith("keras.")


def itself(model: Any) -> tuple[str, Any]:
    """Return the model as a layer that can be chosen, with its name."""
    return model.name, model


def inside(pattern: Any) -> Any:
    """Return a pattern itself: wrappers of Keras are layers with names."""
    return pattern


def has_kernel(layer: Any) -> bool:
    """Return whether a layer has weights of two or more axes, and is not a model of layers."""
    whole = is_of_keras(layer) and not isinstance(layer, keras.Model)
    own = layer.weights if whole else [*layer._trainable_variables, *layer._non_trainable_variables]
    return any(len(weight.shape) >= 2 for weight in own)


def neurons(layer: Any, place: str) -> None:
    """Return nothing: points compare their thresholds with the shapes of the layer."""


def class_names(layer: Any) -> tuple[str, ...]:
    return (type(layer).__name__,)


def places(layer: Any, method: str) -> tuple[str, ...]:
    """Return the places at a layer for a method: not before an embedding, which has no neurons."""
    takes_indices = isinstance(layer, keras.layers.Embedding)
    return tuple(at for at in METHODS[method] if at != "before" or not takes_indices)


def point_name(layer: str, place: str) -> str:
    """Return the name of the capture point at a place of a layer."""
    return layer + _SUFFIX[place]


def check_attachable(model: Any) -> None:
    """Raise NotCapturable for a model whose layers do not exist yet."""
    if not model.built and isinstance(model, keras.Sequential):
        raise NotCapturable("model is not built: call it once, or build() it")
    if not children(model):
        raise NotCapturable(f"{model.name} has no layers yet: call it once, or build() it")


# ---- attaching ---------------------------------------------------------------------------------


def attach(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str] = (),
) -> tuple[Any, list[KerasPoint]]:
    """Return a new model that shares layers and weights, and has capture layers.

    A subclassed model cannot be rebuilt. Its chosen layers' calls are wrapped in place.
    """
    if not is_functional(model):
        points = attach_in_place(model, chosen, method, options, existing)
        list_new_points(model, points)
        return model, points
    probes = _probes(model, chosen, method, options, existing, inside=False)
    try:
        missing = set(probes) - {id(layer) for layer in (model, *functional_layers(model))}
        if missing:
            names = [name for name, layer in chosen if id(layer) in missing]
            raise NotCapturable(
                f"{names} lie inside layers that cannot be taken apart; use capture(), which wraps "
                "their calls and unwraps them again"
            )
        new_model = with_captures(model, probes)
        points = [*points_of(probes)]
        new_model.model_passes = _passes_of(model) or ModelPasses(options)
        for point in points:
            point.belong_to(new_model.model_passes)
        list_new_points(new_model, new_model.points_of_layers.values())
        _copy_compile_config(new_model, model)
    except BaseException:
        release_names(points_of(probes))
        raise
    return new_model, points


def attach_in_place(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str] = (),
) -> list[KerasPoint]:
    """Wrap the calls of the chosen layers, all or none. detach() unwraps them."""
    probes = _probes(model, chosen, method, options, existing, inside=True)
    points = [*points_of(probes)]
    try:
        _wrap_layers(model, chosen, probes, points, options)
    except BaseException:
        release_names(points)
        detach(points)
        raise
    return points


def _wrap_layers(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    probes: Probes,
    points: Sequence[KerasPoint],
    options: CaptureOptions,
) -> None:
    wrapped = [layer for _, layer in chosen if id(layer) in probes]
    users = [model, *traced_users(wrapped)]
    retrace_users = functools.partial(retrace, [weakref.ref(user) for user in users])
    for layer in wrapped:
        wrap(layer, probes[id(layer)], retrace_users)
    note_axes_in_code(model, [(layer, probes[id(layer)]) for layer in wrapped])
    if points:
        count_passes(model, ModelPasses(options), points, retrace_users)
    retrace_users()


def attach_switched(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    method: str,
    options: CaptureOptions,
    sampler: Sampler,
) -> NoReturn:
    """Raise NotCapturable: between passes, Keras' graphs cannot be without capture points."""
    raise NotCapturable(
        "StateMonitor is for PyTorch models: for fit() of a Keras model, "
        "tensorstate_gpu.training.StateEfficiency is a callback, and a loop of your own can use "
        'capture(model, ..., keep="counts")'
    )


def detach(points: Iterable[CapturePoint]) -> None:
    """Unwrap the layer calls of these points, of each whatever fails for another."""
    with ExitStack() as each:
        for point in points:
            if isinstance(point, KerasPoint):
                each.callback(point.detach)


def remove(model: Any, points: Sequence[CapturePoint]) -> Any:
    """Return the model without its capture points: itself, or a new model."""
    detach(points)
    return without(model, points)


def without(model: Any, points: Sequence[CapturePoint]) -> Any:
    """Return a functional model without these points, which stay in this one; others themselves."""
    if not points or not is_functional(model):
        return model
    new_model = without_captures(model, points)
    _copy_compile_config(new_model, model)
    return new_model


def _passes_of(model: Any) -> ModelPasses | None:
    """Return what counts the passes of points that a functional model already has."""
    captures = (layer for layer in functional_layers(model) if isinstance(layer, StateCapture))
    return next((layer.point.model_passes for layer in captures if layer.point.model_passes), None)


def _probes(
    model: Any,
    chosen: Sequence[tuple[str, Any]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str],
    *,
    inside: bool,
) -> Probes:
    check_available(options, model)
    check_distribution(model.name)
    _check_firing(options, model)
    check_mask(model, options.mask)
    wanted = [
        Wanted(path, layer, place, name)
        for path, layer in chosen
        for place in places(layer, method)
        if (name := point_name(path, place)) not in existing
    ]
    may_be_none = bool(existing)
    return new_probes(model, wanted, options, inside=inside, may_be_none=may_be_none)


def _check_firing(options: CaptureOptions, model: Any) -> None:
    """Raise TypeError for ``firing`` where JAX compiles a model: see check_distribution()."""
    is_compiled = keras.backend.backend() == "jax" and not getattr(model, "run_eagerly", True)
    if options.firing is not None and is_compiled:
        raise TypeError(
            f"{model.name}: firing= is not for JAX transformations: capture firing(x), as bools, "
            "or compile() the model with run_eagerly=True"
        )


def _copy_compile_config(new_model: Any, model: Any) -> None:
    """Compile a model like another one, with the same optimizer and its state."""
    if not model.compiled:
        return
    config = {**model._compile_config.config, "optimizer": model.optimizer}
    if keras.backend.backend() != "jax" and config["jit_compile"]:
        config["jit_compile"] = "auto"  # models that capture are not compiled on these backends
    new_model.compile(**config)
