"""Attaches capture points to models, and removes them."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any, Unpack

from tensorstate_gpu._arrays.frameworks import bridge_of
from tensorstate_gpu._capturing.attachment import (
    Attachment,
    Method,
    check_store_layers,
    plan_attachment,
    release_names,
)
from tensorstate_gpu._capturing.bridge_protocol import Bridge
from tensorstate_gpu._capturing.capture_point import CapturePoint, own_point
from tensorstate_gpu._capturing.choosing import Missing
from tensorstate_gpu._capturing.options import CaptureKeywords, takes_options
from tensorstate_gpu._capturing.run import Run, reset_points
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._warnings import warn_user
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
    attach_to: Any = None,
    exclude: Any = (),
    method: Method = "after",
    storage_path: Any = None,
    *,
    missing: Missing = "error",
    **options: Unpack[CaptureKeywords],
) -> Any:
    """Attach capture points to the layers of a model.

    Parameters
    ----------
    model : torch.nn.Module or keras.Model
    attach_to, exclude : str, class, predicate (name, layer) -> bool, layer, or a list of these
        Which layers to capture: by name, class name, glob over either, or class. ``exclude`` takes
        precedence. The default is the layers that have weights of two or more axes: convolutions,
        dense, recurrent and attention layers. ``"*"`` stands for all layers; the model itself is
        chosen by its class, or by the model.
    method : "before", "after" or "both"
        Whether to capture the inputs of a layer, its outputs, or both.
    storage_path : str, path or Store, optional
        Keep all rows in a store: a new one at this path, or an open one such as ``Store("run.zarr",
        mode="a")``, which resumes an earlier capture.
    missing : "error" or "warn"
        Whether it is an error that no layer matches. With "warn", the model has no capture points
        then, and an UnmatchedNameWarning says so. A name in a list that matches no layer is told
        in such a warning, too.
    **options
        keep, threshold, firing, neuron_axis, batch_axis, mask, merge_calls, when, compressor,
        groups and stage_rows, as in CapturePoint; they apply to every layer.

    Returns
    -------
    A PyTorch model is returned itself, with forward hooks added. For a Keras model, a new model is
    returned that shares the layers and weights and contains StateCapture layers; a subclassed Keras
    model is returned itself, with the calls of its layers wrapped. ``model.efficiency_layers``
    lists the capture points. They are named ``<layer>_post_states`` and ``<layer>_pre_states`` in
    PyTorch, ``<layer>_states`` and ``<layer>_pre_states`` in Keras. If the model has capture points
    already, those of layers that are not chosen now are removed; the others stay, with their states
    and options. Copies of a PyTorch model have no capture points.

    Raises
    ------
    TypeError, ValueError
        Before anything is attached: for an unsupported model, an unknown method or
        keep, or if no layer matches (the message lists the layers).

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> model = build_efficiency_model(model, ["Linear", "ReLU"])
    >>> _ = model(torch.ones(10, 3))
    >>> [(point.name, point.state_count) for point in model.efficiency_layers]
    [('0_post_states', 10), ('1_post_states', 10)]
    """
    attachment = plan_attachment(
        model, attach_to, exclude, method, storage_path, missing=missing, **options
    )
    existing = _attached_points(model)
    captured = model
    try:
        with deferred_interrupts():  # between hooks, some would stay without efficiency_layers
            captured = _attached(model, attachment, existing)
    except BaseException:
        if captured is not model:  # a new model, which the caller never gets
            points = [point for point in captured.efficiency_layers if point not in existing]
            _undo(attachment.bridge, points)
        raise
    return captured


def _attached(model: Any, attachment: Attachment, existing: list[CapturePoint]) -> Any:
    """Attach the points that are missing among those of the model, and return the model with all.

    Points of layers that are no longer chosen leave it.
    """
    attachment = attachment.of_same_model(existing)
    bridge = attachment.bridge
    wanted = attachment.point_names
    kept = [point for point in existing if (point.call_of or point.name) in wanted]
    others = [point for point in existing if point not in kept]
    _warn_of_other_options(kept, attachment)
    bare = bridge.without(model, others)
    names = {point.name for point in kept}
    chosen = attachment.chosen if bare is model else attachment.chosen_in(bare)
    captured, points = bridge.attach(bare, chosen, attachment.method, attachment.options, names)
    try:
        attachment.tell(points)
        check_store_layers(attachment.options.disk_path)
    except BaseException:
        _undo(bridge, points)
        raise
    attachment.tell_kept(kept)
    if bare is model:  # else they stay in that model
        bridge.detach(others)
        Run(others).close()
    layers = AttachedPoints([*kept, *points])
    for point in points:
        point.new_point_listeners.append(layers.insert_after)
    captured.efficiency_layers = layers
    return captured


def _undo(bridge: Bridge, points: Sequence[CapturePoint]) -> None:
    """Undo attaching: nothing was captured, and a store lists none of these points."""
    with deferred_interrupts():
        bridge.detach(points)
        release_names(points)


def reset_efficiency_model(model: Any) -> None:
    """Empty all capture points of a model or Run. Raises ValueError if there are none.

    Examples
    --------
    >>> import torch
    >>> model = build_efficiency_model(torch.nn.Linear(3, 4))
    >>> for epoch in range(2):
    ...     reset_efficiency_model(model)
    ...     _ = model(torch.ones(10, 3))
    >>> model.efficiency_layers[0].state_count
    10
    """
    reset_points(_points(model))


def remove_state_layers(model: Any) -> Any:
    """Remove the capture points of a model, and nothing else; return the model.

    What they captured into a store is committed; see Run.close().

    For Keras, the result is a new model without capture layers that shares all other layers.

    Examples
    --------
    >>> import torch
    >>> model = build_efficiency_model(torch.nn.Linear(3, 4))
    >>> model = remove_state_layers(model)
    >>> hasattr(model, "efficiency_layers")
    False
    """
    bridge: Bridge = bridge_of(model)
    points, removed = _points(model), model
    try:
        with closing(Run(points)), deferred_interrupts():  # also Ctrl-C leaves no store open
            del model.efficiency_layers
            removed = bridge.remove(model, points)
    except KeyboardInterrupt:
        if removed is not model:  # the caller never gets the new one, and may call again
            model.efficiency_layers = points
        raise
    return removed


def _warn_of_other_options(kept: list[CapturePoint], attachment: Attachment) -> None:
    """Warn if points that a model already has, and keeps, have other options than those given."""
    options = attachment.options
    if others := [point.name for point in kept if options.differs_from(point.options)]:
        warn_user(
            f"{', '.join(others)}: these capture points exist, and keep their other options; "
            "remove_state_layers() removes them"
        )


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
