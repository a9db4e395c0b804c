"""Attaches capture points to models, through the bridge of the model's framework."""

import itertools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Unpack

from tensorstate_gpu._arrays.frameworks import bridge_of
from tensorstate_gpu._capturing.bridge_protocol import Bridge, Chosen
from tensorstate_gpu._capturing.capture_point import CapturePoint, own_point
from tensorstate_gpu._capturing.matching import match, names_of_layers
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu.errors import NoCapturePoints


class AttachedPoints(list[CapturePoint]):
    """``model.efficiency_layers``: empty in a copy of the model, to which no point is attached."""

    def insert_after(self, point: CapturePoint, before: CapturePoint) -> None:
        """Add a capture point that another one has created, after the one that it comes after."""
        self.insert(self.index(before) + 1, point)

    def __reduce_ex__(self, protocol: Any) -> tuple[type[list[Any]], tuple[()]]:
        return list, ()


@takes_options
def build_efficiency_model(
    model: Any,
    attach_to: Any,
    exclude: Any = (),
    method: str = "after",
    storage_path: Any = None,
    **options: Unpack[CaptureKeywords],
) -> Any:
    """Attach capture points to the layers of a model.

    Parameters
    ----------
    model : torch.nn.Module or keras.Model
    attach_to, exclude : str, class, predicate (name, layer) -> bool, or a list of these
        Which layers to capture: by name, class name, glob over either, or class. ``exclude`` takes
        precedence.
    method : "before", "after" or "both"
        Whether to capture the inputs of a layer, its outputs, or both.
    storage_path : str, path or Store, optional
        Keep all rows in a store: a new one at this path, or an open one such as ``Store("run.zarr",
        mode="a")``, which resumes an earlier capture.
    **options
        keep, threshold, firing, neuron_axis, batch_axis, mask, merge_calls, when and compressor, as
        in CapturePoint; they apply to every layer.

    Returns
    -------
    A PyTorch model is returned itself, with forward hooks added. For a Keras model, a new model is
    returned that shares the layers and weights and contains StateCapture layers; a subclassed Keras
    model is returned itself, with the calls of its layers wrapped. ``model.efficiency_layers``
    lists the capture points. They are named ``<layer>_post_states`` and ``<layer>_pre_states`` in
    PyTorch, ``<layer>_states`` and ``<layer>_pre_states`` in Keras. A layer that already has a
    capture point keeps it, with its options. Copies of a PyTorch model have no capture points.

    Raises
    ------
    TypeError, ValueError
        Before anything is attached: for an unsupported model, an unknown method or
        keep, or if no layer matches (the message lists the layers).
    """
    bridge: Bridge = bridge_of(model)
    capture_options = CaptureOptions.from_arguments(storage_path, options)
    chosen, others = _matching_layers(bridge, model, attach_to, exclude, method)
    capture_options = _checked_for(chosen, others, capture_options)
    existing = _attached_points(model)
    names = {point.name for point in existing}
    _warn_of_other_options(
        existing,
        {bridge.point_name(name, at) for name, _ in chosen for at in bridge.METHODS[method]},
        capture_options,
    )
    captured, points = bridge.attach(model, chosen, method, capture_options, names)
    _tell_other_names(bridge, method, points, others)
    try:
        _check_store_layers(storage_path)
    except ValueError:
        bridge.remove(captured, points)
        _release_names(points)
        raise
    layers = AttachedPoints([*existing, *points])
    for point in points:
        point.new_point_listeners.append(layers.insert_after)
    captured.efficiency_layers = layers
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
    """Capture inside a ``with`` block; these capture points are detached when it ends.

    Takes the same parameters as build_efficiency_model. Capture points that the model already has
    are not touched. The Run can be read after the block. A store made from a path is then closed,
    and can be opened with ``mode="a"`` at once; a Store that you opened stays open. If an exception
    ends the block in the middle of a forward pass, that pass is discarded from a store.

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
    capture_options = CaptureOptions.from_arguments(storage_path, options)
    chosen, others = _matching_layers(bridge, model, attach_to, exclude, method)
    capture_options = _checked_for(chosen, others, capture_options)
    points = bridge.attach_in_place(model, chosen, method, capture_options)
    _tell_other_names(bridge, method, points, others)
    try:
        run = Run(points)
        _check_store_layers(storage_path)
    except ValueError:  # for example, two layers with the same name
        bridge.detach(points)
        _release_names(points)
        raise
    try:
        yield run
    except BaseException:
        for point in run.efficiency_layers:
            point.intake.sink.discard_incomplete_pass()
        if not any(point.state_count for point in run.efficiency_layers):
            _release_names(run.efficiency_layers)  # nothing was captured: delete a new, empty store
        raise
    finally:
        bridge.detach(points)
        run.close()


def reset_efficiency_model(model: Any) -> None:
    """Empty all capture points of a model or Run. Raises ValueError if there are none."""
    for point in _points(model):
        point.reset_states()


def remove_state_layers(model: Any) -> Any:
    """Remove the capture points of a model, and nothing else; return the model.

    What they captured into a store is committed; see Run.close().

    For Keras, the result is a new model without capture layers that shares all other layers.
    """
    bridge: Bridge = bridge_of(model)
    points = _points(model)
    del model.efficiency_layers
    removed = bridge.remove(model, points)
    Run(points).close()
    return removed


def _warn_of_other_options(
    existing: list[CapturePoint], wanted: set[str], options: CaptureOptions
) -> None:
    """Warn if points that a model already has, and keeps, have other options than those given."""
    others = [point.name for point in existing if options.differs_from(point.options)]
    if kept := [name for name in others if name in wanted]:
        warnings.warn(
            f"{', '.join(kept)}: these capture points exist, and keep their other options; "
            "remove_state_layers() removes them",
            stacklevel=3,
        )


def _check_store_layers(storage_path: Any) -> None:
    """Raise ValueError if a store has other layers than those that are captured now."""
    if hasattr(storage_path, "session"):
        storage_path.session.check_all_claimed()


def _release_names(points: Iterable[CapturePoint]) -> None:
    for point in points:
        point.intake.sink.release_name()


def _points(model: Any) -> list[CapturePoint]:
    if not hasattr(model, "efficiency_layers"):
        raise NoCapturePoints(
            f"{type(model).__name__} has no capture points: build_efficiency_model() adds them"
        )
    return _attached_points(model)


def _attached_points(model: Any) -> list[CapturePoint]:
    """Return a model's capture points. Raises ValueError if it uses the attribute otherwise."""
    points: object = getattr(model, "efficiency_layers", [])
    found = [own_point(given) for given in points] if isinstance(points, list) else [None]
    own = [point for point in found if point is not None]
    if len(own) < len(found):
        raise ValueError(
            f"{type(model).__name__} has an attribute efficiency_layers of its own "
            f"({type(points).__name__}), where its capture points would be; use capture()"
        )
    return own


def _matching_layers(
    bridge: Bridge, model: Any, attach_to: Any, exclude: Any, method: str
) -> tuple[Chosen, dict[str, list[str]]]:
    """Return the layers to capture, and the other names of each, by its first name."""
    if not isinstance(method, str) or method not in bridge.METHODS:
        raise ValueError(f"method must be one of {list(bridge.METHODS)}, got {method!r}")
    bridge.check_attachable(model)
    layers = bridge.layers(model)
    chosen = match(layers, attach_to, exclude, bridge.class_names)
    others = {names[0]: names[1:] for names, _ in names_of_layers(layers) if names[1:]}
    return chosen, {name: others[name] for name, _ in chosen if name in others}


def _checked_for(
    chosen: Chosen, others: dict[str, list[str]], options: CaptureOptions
) -> CaptureOptions:
    """Return options that hold under all names. Raises ValueError for names of no layer."""
    options.check_layers([*(name for name, _ in chosen), *itertools.chain(*others.values())])
    return options.under_other_names(others)


def _tell_other_names(
    bridge: Bridge, method: str, points: Iterable[CapturePoint], others: dict[str, list[str]]
) -> None:
    """Let capture points of layers with several names answer to all."""
    by_name = {point.name: point for point in points}
    for first, names in others.items():
        for place in bridge.METHODS[method]:
            if (point := by_name.get(bridge.point_name(first, place))) is not None:
                point.answer_to([bridge.point_name(name, place) for name in names])
