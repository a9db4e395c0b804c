"""JAX: tap() records the states of a value, inside jit, grad, scan and vmap."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    import jax
except ImportError as error:
    raise ImportError("JAX arrays need jax: pip install jax") from error
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu._layers.layer_facts import spatial_shape

from .jax_copies import by_the_first, numbers_among_copies
from .jax_functions import compress, is_tracer
from .jax_host_calls import call_host, frames, runs_in, tie_to


def tap(
    x: Any,
    name: str,
    run: Run,
    *,
    index: Any = None,
    neuron_axis: int | None = None,
    threshold: Any = None,
) -> Any:
    """Record the packed states of ``x`` each time this is executed, and return ``x``.

    Works inside ``jax.jit``, ``grad``, ``scan`` and ``cond``, and is differentiable. Each call is
    recorded once, in order; the calls of a ``vmap`` are recorded in the order of the batch. Only
    packed rows leave the device. Reading the capture point waits for pending calls. While Flax
    initialises a module (``init``, ``lazy_init``) or ``tabulate`` lists its layers, nothing is
    recorded: that is no pass of the model. Arrays on several devices are recorded in the order of
    their rows.

    Parameters
    ----------
    x : JAX array of shape (instances, neurons), or of more axes
        Of one axis, it is a single instance, as inside ``vmap``. Where a function takes one
        instance of more axes there, pass ``x[None]``: (positions, neurons) would be instances.
    name : str
        Name of the capture point ``run[name]``. It is created, with ``keep="states"``, if needed.
    run : Run
        ``ts.Run()``, or ``ts.Run([ts.CapturePoint(name, keep="counts")])``.
    index : int or traced integer, optional
        Which of several layers this is, where one function runs them all, as in a ``scan`` over
        layers: each has a capture point of its own, ``run["name[0]"]``, ``run["name[1]"]``, ...,
        with the options of ``run[name]`` if there is one.
    neuron_axis, threshold
        As in compress_states. The defaults are those of the capture point, or else -1 and 0.

    Returns
    -------
    ``x``, unchanged

    Raises
    ------
    TypeError, ValueError
        During tracing, if an argument is not of these kinds, if compress_states does not accept
        ``x``, or if the capture point has another number of neurons.
    RuntimeError
        Inside ``jax.checkpoint`` (``remat``), where JAX does not allow callbacks. Return
        ``compress_states(x)`` from the function instead, and append it outside. Inside
        ``shard_map`` and ``pmap``, where devices record in no particular order: only
        ``keep="counts"`` works there.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> run = Run()
    >>> layer = jax.jit(lambda x: tap(jnp.tanh(x), "tanh", run) + 1)
    >>> _ = layer(jnp.ones((5, 3)))
    >>> run["tanh"].state_count
    5
    """
    x = _checked(x, name, run)
    if _flax_initialises():
        return x
    point = run.point(name if index is None else layer_name(name, 0), like=name)
    point.intake.add_barrier(jax.effects_barrier)
    given = _first_given(neuron_axis, point.neuron_axis, None)
    origin = "rule" if given is None else "given"
    axis = -1 if given is None else given
    if index is None:
        return record_in_graph(x, point, axis, threshold, origin)
    return record_in_graph(x, point, axis, threshold, origin, LayersOf(run, name).point, index)


def _checked(x: Any, name: object, run: object) -> Any:
    """Return x as an array. Raises TypeError or ValueError for arguments of other kinds."""
    if not isinstance(run, Run):
        raise TypeError(f"run must be a Run, got {type(run).__name__}: tap(x, name, run)")
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}: tap(x, name, run)")
    if not hasattr(x, "dtype") and not isinstance(x, (list, tuple, int, float, bool)):
        raise TypeError(f"x must be an array, got {type(x).__name__}: tap the arrays in it")
    x = jnp.asarray(x)
    if not x.ndim:
        raise ValueError("x must have an axis of neurons, got a number")
    return x


def layer_name(name: str, index: int) -> str:
    """Return the name of the capture point of one of several layers.

    >>> layer_name("block", 2)
    'block[2]'
    """
    return f"{name}[{index}]"


@dataclass(frozen=True, slots=True)
class LayersOf:
    """The capture points of the layers that one function runs."""

    run: Run
    name: str

    def point(self, index: int) -> CapturePoint:
        """Return the capture point of a layer; it is created if needed."""
        point = self.run.point(layer_name(self.name, index), like=self.name)
        point.intake.add_barrier(jax.effects_barrier)
        return point


def record_in_graph(
    x: Any,
    point: CapturePoint,
    axis: int,
    threshold: Any = None,
    axis_origin: str | None = None,
    point_of: Callable[..., CapturePoint] | None = None,
    index: Any = None,
    told: Any = None,
) -> Any:
    """Return ``x``, and have its packed states recorded each time the graph is executed.

    ``threshold``: by default that of the capture point. ``x`` of one axis is a single instance.
    ``point_of``: whose rows these are, by the ``index`` (0 by default); by default those of
    ``point``. It is asked whenever the graph is executed, also with the values of an array that is
    to be ``told``.
    """
    if point.firing is not None:
        raise TypeError(
            f"{point.name}: firing= is not for JAX transformations: capture firing(x), as bools"
        )
    states = x[None] if x.ndim == 1 else x
    packed = compress(states, axis, _first_given(threshold, point.threshold))
    axis %= states.ndim
    neurons, instances = states.shape[axis], 1 if axis == 0 else states.shape[0]
    sizes, axis_of_x = spatial_shape(states.shape, axis), axis % x.ndim
    if point_of is None or index is not None:  # else another point may be asked for
        point.intake.check_neurons(neurons)

    def record(batch: tuple[int, ...], packed: NDArray[np.uint8], *more: NDArray[Any]) -> None:
        batches = packed.reshape(math.prod(batch), *packed.shape[len(batch) :])
        which, values = (0, more) if index is None else (more[0], more[1:])
        numbers = [int(number) for number in np.broadcast_to(which, batch).flat]
        points = {each: point if point_of is None else point_of(each, *values) for each in numbers}
        for rows, number in zip(batches, numbers, strict=True):
            to = points[number]
            to.record(rows, neurons, axis_of_x, instances, axis_origin, spatial_shape=sizes)

    if is_tracer(packed):
        _raise_where_order_is_lost(point)
    given = [packed] if index is None else [packed, jnp.asarray(index, jnp.int32)]
    given += [] if told is None else [told]
    copies = numbers_among_copies(x)
    done = call_host(by_the_first(record, len(copies)), *given, *copies)
    return tie_to(x, done) if is_tracer(done) else x


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _raise_where_order_is_lost(point: CapturePoint) -> None:
    """Raise RuntimeError inside shard_map and pmap, unless the order of rows does not matter."""
    if point.keep == "counts":
        return
    if runs_in("jax", "shard_map", "pmap"):
        raise RuntimeError(
            f"{point.name}: inside shard_map and pmap the devices record in no particular order: "
            'return the value, and tap it outside; or use CapturePoint(name, keep="counts")'
        )


def _flax_initialises() -> bool:
    """Return whether Flax runs a module only to create its parameters, or to list its layers."""
    module = _linen_module()
    if module is not None and module.is_initializing():
        return True
    if "flax.nnx" not in sys.modules:
        return False
    return any(runs_in("flax", function=name) for name in ("lazy_init", "tabulate"))


def _linen_module() -> Any:
    """Return the module of Flax's Linen whose method runs now; None if there is none."""
    linen = sys.modules.get("flax.linen")
    if linen is None:
        return None
    holders = (frame.f_locals.get("self") for frame in frames())
    modules = (holder for holder in holders if isinstance(holder, linen.Module))
    return next((module for module in modules if module.scope is not None), None)
