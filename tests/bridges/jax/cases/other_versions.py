"""Calls of the host with a version of JAX that has no longer the internal functions that we use."""

import importlib.util

import jax
import jax._src.callback
import jax.numpy as jnp
import numpy as np
import pytest

from tensorstate_gpu.bridges import jax_host_calls

X = np.arange(12, dtype="float32").reshape(4, 3)
WAYS = {
    "jit": (jax.jit, 1),
    "vmap": (jax.vmap, 1),
    "jit of vmap": (lambda f: jax.jit(jax.vmap(f)), 1),
    "scan": (lambda f: lambda x: jax.lax.scan(lambda sum_, row: (sum_ + f(row), None), 0.0, x), 4),
    "jit of grad of scan": (
        lambda f: jax.jit(
            jax.grad(lambda x: jax.lax.scan(lambda sum_, row: (sum_ + f(row), None), 0.0, x)[0])
        ),
        4,
    ),
}


@pytest.fixture
def without_internals(monkeypatch):
    """The module as such a version imports it."""
    spec = importlib.util.spec_from_file_location(
        "tensorstate_gpu.bridges.jax_host_calls_of_later_versions", jax_host_calls.__file__
    )
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patched:  # JAX itself has them
        patched.delattr(jax._src.callback, "_callback_op_sharding")
        spec.loader.exec_module(module)
    module.trace_state_clean = None  # which JAX calls while it is imported
    return module


@pytest.mark.parametrize("way", WAYS)
def test_arrays_are_handed_over_in_order(without_internals, way):
    transformed, calls = WAYS[way]
    received = []

    def host(batch, rows):
        received.append(rows.reshape(-1, 3).copy())

    def each(x):
        return jnp.sum(without_internals.tie_to(x, without_internals.call_host(host, x)))

    jax.block_until_ready(transformed(each)(X))
    jax.effects_barrier()
    assert len(received) == calls
    np.testing.assert_array_equal(np.concatenate(received), X)
