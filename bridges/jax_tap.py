"""JAX: a probe that records what a function computes, inside jit, grad, scan and vmap."""

import math
from collections.abc import Callable
from typing import Any

try:
    import jax
except ImportError as error:
    raise ImportError("JAX arrays need jax: pip install 'tensorstate_gpu[jax]'") from error
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback
from numpy.typing import NDArray

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.run import Run

from .jax_functions import compress


def tap(
    x: Any, name: str, run: Run, *, neuron_axis: int | None = None, threshold: Any = None
) -> Any:
    """Record the packed states of ``x`` whenever this is executed, and return ``x`` itself.

    Works inside ``jax.jit``, ``grad``, ``scan`` and ``cond``, and is differentiable. Calls are
    recorded once each, in order on one device, and those of a ``vmap`` in the batch's order. Only
    packed rows leave the device. Reading the capture point waits for calls that are under way.

    Parameters
    ----------
    x : JAX array of shape (instances, neurons), or of more axes
    name : str
        The capture point ``run[name]``; made, with ``keep="states"``, where there is none.
    run : Run
        ``ts.Run()``, or ``ts.Run([ts.CapturePoint(name, keep="counts")])``.
    neuron_axis, threshold
        As in compress_states; by default those of the capture point, else -1 and 0.

    Returns
    -------
    ``x``, unchanged

    Raises
    ------
    TypeError, ValueError
        While the function is traced: for what compress_states refuses.
    RuntimeError
        Inside ``jax.checkpoint`` (``remat``), where JAX allows no callbacks: return
        ``compress_states(x)`` from the function there, and append it outside.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> run = Run()
    >>> layer = jax.jit(lambda x: tap(jnp.tanh(x), "tanh", run) + 1)
    >>> _ = layer(jnp.ones((5, 3)))
    >>> run["tanh"].state_count
    5
    """
    if not isinstance(run, Run):
        raise TypeError(f"run must be a Run, got {type(run).__name__}")
    x = jnp.asarray(x)
    point = run.point(name)
    point.intake.wait_with(jax.effects_barrier)
    axis = _first(neuron_axis, point.neuron_axis, -1)
    return recorded(x, point, axis, threshold)


def recorded(x: Any, point: CapturePoint, axis: int, threshold: Any = None) -> Any:
    """``x``, whose packed states go to a capture point whenever this is executed.

    ``threshold``: by default that of the capture point.
    """
    if point.firing is not None:
        raise TypeError(
            f"{point.name}: firing= is not for JAX transformations: capture firing(x), as bools"
        )
    packed = compress(x, axis, _first(threshold, point.threshold))
    axis %= x.ndim
    record = _recorder(point, x.shape[axis], axis, 1 if axis == 0 else x.shape[0])
    return after(x, record(packed))


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def after(x: Any, marker: Any) -> Any:
    """``x``, once ``marker`` is there. Without the tie JAX drops callbacks from the gradient of a
    scan, in silence (seen with 0.10)."""
    return jax.lax.optimization_barrier((x, marker))[0]


def _recorder(point: CapturePoint, neurons: int, axis: int, instances: int) -> Callable[[Any], Any]:
    """A function that records packed rows (..., rows, bytes) when it is executed."""

    def keep(packed: Any) -> NDArray[np.uint8]:
        batches = np.asarray(packed).reshape(math.prod(packed.shape[:-2]), *packed.shape[-2:])
        for rows in batches:
            point.intake.record(rows, neurons, axis, instances)
        return np.zeros(packed.shape[:-2], np.uint8)

    return recorder(keep)


def recorder(keep: Callable[[Any], NDArray[np.uint8]]) -> Callable[[Any], Any]:
    """A function of packed rows that has ``keep`` called with them, in order, and gives its result:
    zeros of the shape of the batch axes, if any."""
    _refuse_checkpoint()

    @custom_vmap
    def record(packed: Any) -> Any:
        result = jax.ShapeDtypeStruct(packed.shape[:-2], jnp.uint8)
        return io_callback(keep, result, packed, ordered=True)

    @record.def_vmap
    def _(size: int, batched: list[bool], packed: Any) -> tuple[Any, bool]:
        return record(packed), True  # JAX itself batches no ordered callbacks

    return lambda packed: record(jax.lax.stop_gradient(packed))


def _refuse_checkpoint() -> None:
    """RuntimeError while jax.checkpoint traces: JAX would refuse later, without a way out."""
    import sys

    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.endswith("ad_checkpoint.py"):
            raise RuntimeError(
                "states cannot be recorded inside jax.checkpoint (remat), where JAX allows no "
                "callbacks: return compress_states(x) from the function, and record it outside "
                "with CapturePoint.append"
            )
        frame = frame.f_back  # type: ignore[assignment]
