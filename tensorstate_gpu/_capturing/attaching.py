"""Attaching capture points to models: picks the bridge of the model's framework."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Unpack

from tensorstate_gpu._arrays.frameworks import bridge_of
from tensorstate_gpu._capturing.bridge_protocol import Bridge
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.matching import match
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu.errors import NoCapturePoints


@takes_options
def build_efficiency_model(
    model: Any,
    attach_to: Any,
    exclude: Any = (),
    method: str = "after",
    storage_path: Any = None,
    **options: Unpack[CaptureKeywords],
) -> Any:
    """Attach capture points to a model's layers.

    Parameters
    ----------
    model : torch.nn.Module or keras.Model
    attach_to, exclude : str, class, predicate (name, layer) -> bool, or a list of these
        Which layers: by name, class name, glob over either, or class. ``exclude`` wins.
    method : "before", "after" or "both"
        Whether to look at what goes into a layer, at what comes out, or at both.
    storage_path : str, path or Store, optional
        Keep all rows in a store: a new one at this path, or one that was opened, as
        ``Store("run.zarr", mode="a")`` to go on where an earlier capture ended.
    **options
        keep, threshold, firing, neuron_axis, compressor: as in CapturePoint, for each layer.

    Returns
    -------
    The same PyTorch model, with forward hooks added; or a new Keras model that shares layers and
    weights with the old one, with StateCapture layers in it (a subclassed Keras model is given back
    itself, with its layers' calls wrapped). ``model.efficiency_layers`` lists its capture points,
    named ``<layer>_post_states`` and ``<layer>_pre_states``, with Keras ``<layer>_states`` and
    ``<layer>_pre_states``. A layer that has one already keeps it, and its options.

    Raises
    ------
    TypeError, ValueError
        Before anything is attached: an unknown kind of model, method or keep, a compiled model,
        no layer that matches (the message lists those there are).
    """
    bridge: Bridge = bridge_of(model)
    checked = CaptureOptions.of(storage_path, options)
    chosen = _choose(bridge, model, attach_to, exclude, method)
    there = _points_there(model)
    names = {point.name for point in there}
    captured, points = bridge.attach(model, chosen, method, checked, names)
    try:
        _check_layers_of(storage_path)
    except ValueError:
        bridge.remove(captured, points)
        _give_up(points)
        raise
    captured.efficiency_layers = [*there, *points]
    return captured


@takes_options
@contextmanager
def capture(
    model: Any,
    attach_to: Any,
    exclude: Any = (),
    method: str = "after",
    storage_path: Any = None,
    **options: Unpack[CaptureKeywords],
) -> Iterator[Run]:
    """Capture inside a with block; on exit exactly these probes are detached, whatever happened.

    Parameters are those of build_efficiency_model; probes that the model has already are left
    alone. The Run stays readable after the block.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> with capture(model, "Linear") as run:
    ...     _ = model(torch.ones(10, 3))
    >>> run["0_post_states"].state_count
    10
    """
    bridge: Bridge = bridge_of(model)
    checked = CaptureOptions.of(storage_path, options)
    chosen = _choose(bridge, model, attach_to, exclude, method)
    points = bridge.attach_in_place(model, chosen, method, checked)
    try:
        run = Run(points)
        _check_layers_of(storage_path)
    except ValueError:  # two layers of one name
        bridge.detach(points)
        _give_up(points)
        raise
    labels = bridge.call_after_forward(model, lambda: run.labels(None))
    try:
        yield run
    except BaseException:
        for point in points:
            point.intake.sink.forget_broken_pass()
        if not any(point.state_count for point in points):
            _give_up(points)  # nothing was captured: a new store is not left in the way
        raise
    finally:
        labels.remove()
        bridge.detach(points)
        for point in points:
            point.flush()


def reset_efficiency_model(model: Any) -> None:
    """Empty every capture point of a model or Run; ValueError when it has none."""
    for point in _points(model):
        point.reset_states()


def remove_state_layers(model: Any) -> Any:
    """Take the capture points off a model again, and nothing else; returns the model.

    With Keras that is a new model without capture layers, which shares all others.
    """
    bridge: Bridge = bridge_of(model)
    points = _points(model)
    del model.efficiency_layers
    return bridge.remove(model, points)


def _check_layers_of(storage_path: Any) -> None:
    """ValueError when a store holds other layers than those that are captured into it now."""
    if hasattr(storage_path, "session"):
        storage_path.session.check_all_claimed()


def _give_up(points: Iterable[CapturePoint]) -> None:
    for point in points:
        point.intake.sink.give_up()


def _points(model: Any) -> list[CapturePoint]:
    if not hasattr(model, "efficiency_layers"):
        raise NoCapturePoints(
            f"{type(model).__name__} has no capture points: build_efficiency_model() adds them"
        )
    return _points_there(model)


def _points_there(model: Any) -> list[CapturePoint]:
    """The capture points of a model so far; ValueError where the attribute is the model's own."""
    points = getattr(model, "efficiency_layers", [])
    if not isinstance(points, list) or not all(isinstance(p, CapturePoint) for p in points):
        raise ValueError(
            f"{type(model).__name__} has an attribute efficiency_layers of its own "
            f"({type(points).__name__}), where its capture points would be; use capture()"
        )
    return list(points)


def _choose(
    bridge: Bridge, model: Any, attach_to: Any, exclude: Any, method: str
) -> list[tuple[str, Any]]:
    if not isinstance(method, str) or method not in bridge.METHODS:
        raise ValueError(f"method must be one of {list(bridge.METHODS)}, got {method!r}")
    bridge.check_attachable(model)
    return match(bridge.layers(model), attach_to, exclude, bridge.class_names)
