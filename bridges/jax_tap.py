"""JAX: tap() records the states of a value, inside jit, grad, scan and vmap."""

import math
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
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
    """Record the packed states of ``x`` each time this is executed, and return ``x``.

    Works inside ``jax.jit``, ``grad``, ``scan`` and ``cond``, and is differentiable. Each call is
    recorded once, in order on one device; the calls of a ``vmap`` are recorded in the order of the
    batch. Only packed rows leave the device. Reading the capture point waits for pending calls.
    While Flax initialises a module (``init``, ``lazy_init``) nothing is recorded: that is no pass
    of the model.

    Parameters
    ----------
    x : JAX array of shape (instances, neurons), or of more axes
        Of one axis, it is a single instance, as inside ``vmap``.
    name : str
        Name of the capture point ``run[name]``. It is created, with ``keep="states"``, if needed.
    run : Run
        ``ts.Run()``, or ``ts.Run([ts.CapturePoint(name, keep="counts")])``.
    neuron_axis, threshold
        As in compress_states. The defaults are those of the capture point, or else -1 and 0.

    Returns
    -------
    ``x``, unchanged

    Raises
    ------
    TypeError, ValueError
        During tracing, if compress_states does not accept ``x``.
    RuntimeError
        Inside ``jax.checkpoint`` (``remat``), where JAX does not allow callbacks. Return
        ``compress_states(x)`` from the function instead, and append it outside.

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
    if _flax_initialises():
        return x
    point = run.point(name)
    point.intake.add_barrier(jax.effects_barrier)
    given = _first_given(neuron_axis, point.neuron_axis, None)
    origin = "rule" if given is None else "given"
    return record_in_graph(x, point, -1 if given is None else given, threshold, origin)


def record_in_graph(
    x: Any, point: CapturePoint, axis: int, threshold: Any = None, axis_origin: str | None = None
) -> Any:
    """Return ``x``, and have its packed states recorded each time the graph is executed.

    ``threshold``: by default that of the capture point. ``x`` of one axis is a single instance.
    """
    if point.firing is not None:
        raise TypeError(
            f"{point.name}: firing= is not for JAX transformations: capture firing(x), as bools"
        )
    states = x[None] if x.ndim == 1 else x
    packed = compress(states, axis, _first_given(threshold, point.threshold))
    axis %= states.ndim
    instances = 1 if axis == 0 else states.shape[0]
    record = _recorder(point, states.shape[axis], axis % x.ndim, instances, axis_origin)
    return tie_to(x, record(packed))


def _first_given(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def tie_to(x: Any, marker: Any) -> Any:
    """Return ``x``, available only once ``marker`` has been computed.

    Without this dependency JAX silently drops callbacks from the gradient of a scan (seen with
    0.10).
    """
    return jax.lax.optimization_barrier((x, marker))[0]


def _recorder(
    point: CapturePoint, neurons: int, axis: int, instances: int, axis_origin: str | None
) -> Callable[[Any], Any]:
    """Return a function that records packed rows (..., rows, bytes) when it is executed."""

    def store_rows(packed: Any) -> NDArray[np.uint8]:
        batches = np.asarray(packed).reshape(math.prod(packed.shape[:-2]), *packed.shape[-2:])
        for rows in batches:
            point.record(rows, neurons, axis, instances, axis_origin)
        return np.zeros(packed.shape[:-2], np.uint8)

    return recorder(store_rows)


def recorder(store_rows: Callable[[Any], NDArray[np.uint8]]) -> Callable[[Any], Any]:
    """Return a traceable function of packed rows that calls ``store_rows``, in order.

    Its result is that of ``store_rows``: zeros in the shape of the batch axes.
    """
    _raise_inside_checkpoint()

    @custom_vmap
    def record(packed: Any) -> Any:
        result = jax.ShapeDtypeStruct(packed.shape[:-2], jnp.uint8)
        return io_callback(store_rows, result, packed, ordered=True)

    @record.def_vmap
    def _(size: int, batched: list[bool], packed: Any) -> tuple[Any, bool]:
        return record(packed), True  # JAX itself cannot batch ordered callbacks

    return lambda packed: record(jax.lax.stop_gradient(packed))


def _raise_inside_checkpoint() -> None:
    """Raise RuntimeError while jax.checkpoint traces.

    JAX would raise an error later, without naming a workaround.
    """
    if any(code.co_filename.endswith("ad_checkpoint.py") for code in _callers()):
        raise RuntimeError(
            "states cannot be recorded inside jax.checkpoint (remat), where JAX allows no "
            "callbacks: return compress_states(x) from the function, and record it outside "
            "with CapturePoint.append"
        )


def _flax_initialises() -> bool:
    """Return whether Flax runs a module only to create its parameters."""
    linen = sys.modules.get("flax.linen.module")
    module = None if linen is None else linen._context.module_stack[-1]
    if module is not None and module.scope is not None:
        return bool(module.is_initializing())
    if "flax.nnx" not in sys.modules:
        return False
    return any(code.co_name == "lazy_init" and "flax" in code.co_filename for code in _callers())


def _callers() -> Iterator[CodeType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back
