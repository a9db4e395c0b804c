"""JAX: calls of the host by compiled functions, in order, with NumPy arrays."""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any

try:
    import jax
except ImportError as error:
    raise ImportError("JAX arrays need jax: pip install jax") from error
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from numpy.typing import NDArray

try:
    from jax._src.callback import _callback_op_sharding
    from jax._src.dispatch import prim_requires_devices_during_lowering
    from jax.interpreters.mlir import emit_python_callback
except ImportError:  # most of it is JAX's own, and a later version may have it elsewhere
    _callback_op_sharding = None  # type: ignore[assignment]
try:
    from jax._src.core import trace_state_clean
except ImportError:  # calls are made in order all the same, later
    trace_state_clean = None  # type: ignore[assignment]

# What is called with the sizes of the batch axes, and with arrays that begin with these.
Host = Callable[..., None]


def call_host(host: Host, *arrays: Any) -> Any:
    """Call ``host(batch, *arrays)`` whenever this is executed, in order. Return what tells so.

    ``batch``: the sizes of the axes that ``vmap`` puts before those of each array; () without. The
    arrays may be in memory of XLA: what outlives the call must be copied. The result is a zero for
    each element of the batch.

    jax.experimental.io_callback would copy each array of 100 KiB and more in a thread of XLA, and
    wait for it. Where XLA has only one, on one processor, that thread is the one that waits. It is
    only used with versions of JAX that lack what this needs.

    Raises RuntimeError inside jax.checkpoint.
    """
    _raise_inside_checkpoint()
    # A gradient that stops here needs no rule for how a call is differentiated.
    given = [jax.lax.stop_gradient(jnp.asarray(array)) for array in arrays]
    [done] = _HOST_CALL.bind(*given or [jnp.zeros(1, jnp.uint8)], host=host, batch=())
    return done


def in_transformation() -> bool:
    """Return whether JAX traces a function now, whose operations it may execute later.

    Arrays that such a function does not get as arguments are no tracers in it. No public function
    of JAX tells: take_current_trace() of jax.extend leaves nothing behind since 0.12.
    """
    return trace_state_clean is None or not trace_state_clean()


def tie_to(x: Any, marker: Any) -> Any:
    """Return ``x``, available only once ``marker`` has been computed.

    Without this dependency JAX silently drops callbacks from the gradient of a scan (seen with
    0.10).
    """
    return jax.lax.optimization_barrier((x, marker))[0]


_HOST_CALL = Primitive("tensorstate_host_call")
_HOST_CALL.multiple_results = True
# The effect that keeps calls in order.
[_IN_ORDER] = jax.make_jaxpr(partial(io_callback, lambda: None, None, ordered=True))().effects


def _call_now(*given: Any, host: Host, batch: tuple[int, ...]) -> list[Any]:
    jax.effects_barrier()
    host(batch, *map(np.asarray, given))
    return [jnp.zeros(batch, jnp.uint8)]


def _result_of(*_: Any, host: Host, batch: tuple[int, ...]) -> tuple[list[Any], set[Any]]:
    del host
    return [jax.core.ShapedArray(batch, np.dtype(np.uint8))], {_IN_ORDER}


def _batched(
    given: Sequence[Any], axes: Sequence[int | None], *, host: Host, batch: tuple[int, ...]
) -> tuple[Any, list[int]]:
    sizes = zip(given, axes, strict=True)
    size = next(part.shape[axis] for part, axis in sizes if axis is not None)
    parts = [
        jnp.broadcast_to(part, (size, *part.shape)) if axis is None else jnp.moveaxis(part, axis, 0)
        for part, axis in zip(given, axes, strict=True)
    ]
    return _HOST_CALL.bind(*parts, host=host, batch=(size, *batch)), [0]


def _lowered(ctx: Any, *given: Any, host: Host, batch: tuple[int, ...]) -> Any:
    def called(*arrays: Any) -> tuple[Any]:
        host(batch, *map(np.asarray, arrays))
        return (np.zeros(batch, np.uint8),)

    result, token, _ = emit_python_callback(
        ctx,
        called,
        ctx.tokens_in.get(_IN_ORDER),
        list(given),
        ctx.avals_in,
        ctx.avals_out,
        has_side_effect=True,
        returns_token=True,
        sharding=_callback_op_sharding(ctx.module_context.axis_context, None, ctx.avals_out),
    )
    tokens = mlir.TokenSet({_IN_ORDER: token})
    ctx.set_tokens_out(ctx.tokens_in.update_tokens(tokens))
    return result


def _by_io_callback(*given: Any, host: Host, batch: tuple[int, ...]) -> list[Any]:
    def called(*arrays: Any) -> NDArray[np.uint8]:
        host(batch, *map(np.asarray, arrays))
        return np.zeros(batch, np.uint8)

    result = jax.ShapeDtypeStruct(batch, jnp.uint8)
    return [io_callback(called, result, *given, ordered=True)]


_HOST_CALL.def_impl(_call_now)
_HOST_CALL.def_effectful_abstract_eval(_result_of)
batching.primitive_batchers[_HOST_CALL] = _batched
if _callback_op_sharding is None:
    _lowering = mlir.lower_fun(_by_io_callback, multiple_results=True)
else:
    _lowering = _lowered
    prim_requires_devices_during_lowering.add(_HOST_CALL)
mlir.register_lowering(_HOST_CALL, _lowering, cacheable=False)


def is_inside_checkpoint() -> bool:
    """Return whether jax.checkpoint traces now, whose function may not call the host."""
    return in_transformation() and runs_in("jax", "ad_checkpoint")


def _raise_inside_checkpoint() -> None:
    """Raise RuntimeError while jax.checkpoint traces.

    JAX would raise an error later, without naming a workaround.
    """
    if is_inside_checkpoint():
        raise RuntimeError(
            "states cannot be recorded inside jax.checkpoint (remat), where JAX allows no "
            "callbacks: return compress_states(x) from the function, and record it outside "
            "with CapturePoint.append"
        )


def runs_in(package: str, *modules: str, function: str | None = None) -> bool:
    """Return whether this thread runs code of one of these modules, anywhere in a package.

    ``function``: only code of that name. Files of others may be called like those of JAX.
    """
    running = (
        str(frame.f_globals.get("__name__")).split(".")
        for frame in frames()
        if function in (None, frame.f_code.co_name)
    )
    return any(parts[0] == package and (not modules or parts[-1] in modules) for parts in running)


def frames() -> Iterator[FrameType]:
    """Yield the frames of this thread, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
