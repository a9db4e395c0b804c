"""JAX: PaddedCounts, a histogram of a fixed size, for jit, vmap, scan and several devices."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

try:
    import jax
except ImportError as error:
    raise ImportError("JAX arrays need jax: pip install jax") from error
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tensorstate_gpu._arguments import integer, positive_integer
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._states.packed_arguments import check_neurons, check_packed
from tensorstate_gpu._states.state_counts import StateCounts


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["packed", "counts", "distinct", "total"],
    meta_fields=["neurons", "fill_value"],
)
@dataclass(frozen=True, eq=False)
class PaddedCounts:
    """How often each distinct state occurred, in arrays of a fixed size: a pytree.

    What `count_states(states, size=...)` returns. It can be returned from ``jit``, batched by
    ``vmap``, carried by ``scan``, gathered from several devices and saved in a checkpoint.

    Attributes
    ----------
    packed : uint8 array of shape (size, bytes)
        The distinct states, in order; behind them rows of ``fill_value``. If there are more than
        ``size``, the first ones.
    counts : integer array of shape (size,)
        How often each occurred; 0 for padding.
    distinct : integer
        How many distinct states there are. After a merge of parts of which one has an overflow,
        only that there are more than ``size``.
    total : integer
        How many states were counted, with repetitions. Integers are JAX's default: int32, unless
        ``jax_enable_x64`` is set. More than they hold is an overflow.
    neurons, fill_value : int
        Static.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from tensorstate_gpu import count_states
    >>> counts = jax.jit(lambda x: count_states(x, size=4))(jnp.array([[3], [0], [3]], jnp.uint8))
    >>> counts.counts.tolist(), bool(counts.overflow)
    ([1, 2, 0, 0], False)
    >>> counts.to_counts().state_ids()
    [b'\\x00', b'\\x03']
    """

    __module__ = "tensorstate_gpu"

    packed: jax.Array
    counts: jax.Array
    distinct: jax.Array
    total: jax.Array
    neurons: int
    fill_value: int = 0

    @classmethod
    def empty(cls, size: int, neurons: int, fill_value: int = 0) -> PaddedCounts:
        """Return the neutral element of merging, with which a ``scan`` begins."""
        rows = jnp.zeros((0, row_bytes(positive_integer(neurons, "neurons"))), jnp.uint8)
        return count(rows, neurons, size, fill_value)

    @property
    def size(self) -> int:
        """How many distinct states there is room for."""
        room: int = self.counts.shape[-1]
        return room

    @property
    def overflow(self) -> jax.Array:
        """Whether states were left out, or more were counted than integers hold: a bool array."""
        return self.distinct > self.size

    def merge(self, other: PaddedCounts) -> PaddedCounts:
        """Return the sum of both, of this size. Raises ValueError if the neurons differ."""
        if other.neurons != self.neurons:
            raise ValueError(f"cannot merge counts of {other.neurons} neurons with {self.neurons}")
        packed = jnp.concatenate((self.packed, other.packed))
        counts = jnp.concatenate((self.counts, other.counts))
        merged = _reduced(packed, counts, self.size, self.neurons, self.fill_value)
        total = self.total + other.total
        lost = self.overflow | other.overflow | (total < 0)
        least = jnp.where(lost, self.size + 1, 0)
        return replace(merged, distinct=jnp.maximum(merged.distinct, least), total=total)

    def merge_over(self, axis_name: str) -> PaddedCounts:
        """Return the sum over all devices of a mesh axis: like ``psum``, in ``shard_map``.

        Also over the axis of a ``vmap`` that has this name.
        """
        parts = jax.lax.all_gather(self, axis_name)
        each: list[PaddedCounts] = [
            jax.tree.map(lambda x, i=i: x[i], parts) for i in range(parts.total.shape[0])
        ]
        return functools.reduce(PaddedCounts.merge, each)

    def entropy(self) -> jax.Array:
        """Return the entropy of the states in bits, as an array; NaN if it is not known.

        That is for no states, and after an overflow.
        """
        shares = self.counts / self.total[..., None]
        logs = jnp.log2(jnp.where(self.counts > 0, shares, 1))
        return jnp.where(self.overflow | (self.total == 0), jnp.nan, -(shares * logs).sum(axis=-1))

    def to_counts(self) -> StateCounts:
        """Return a StateCounts, outside of transformations. Raises OverflowError."""
        found = jax.device_get(self)
        if found.overflow:
            raise OverflowError(f"{found.distinct} distinct states or more, size={self.size}")
        known = int(found.distinct)
        return StateCounts(
            np.asarray(found.packed[:known]), np.asarray(found.counts[:known]), self.neurons
        )


def count(states: ArrayLike, neurons: int | None, size: int, fill_value: int) -> PaddedCounts:
    """Count packed rows (states, bytes); see count_states() with ``size``."""
    packed = jnp.asarray(states)
    check_packed(packed.dtype.name, packed.shape)
    width = packed.shape[1]
    bits = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
    room, fill = positive_integer(size, "size", None), integer(fill_value, "fill_value")
    if room > (most := np.iinfo(jnp.arange(0).dtype).max):
        raise ValueError(f"size must be at most {most:,}, the largest index, got {size}")
    if not 0 <= fill <= 255:
        raise ValueError(f"fill_value must be from 0 to 255, got {fill}")
    return _reduced(packed, jnp.ones(len(packed), int), room, bits, fill)


def _reduced(
    packed: jax.Array, weights: jax.Array, size: int, neurons: int, fill: int
) -> PaddedCounts:
    """Add up the weights of equal rows; those of weight 0 are not there."""
    *keys, order = jax.lax.sort(
        [weights == 0, *_words(packed), jnp.arange(len(packed))],
        num_keys=1 + -(-packed.shape[1] // 4),
    )
    ordered, there = weights[order], ~keys[0]
    begins = jnp.ones(len(packed), bool)
    if len(packed):
        differs = functools.reduce(jnp.logical_or, (key[1:] != key[:-1] for key in keys))
        begins = begins.at[1:].set(differs)
    begins &= there
    places = jnp.where(there, jnp.cumsum(begins) - 1, size)  # at ``size`` nothing is written
    counts = jnp.zeros(size, weights.dtype).at[places].add(ordered, mode="drop")
    rows = jnp.full((size, packed.shape[1]), fill, jnp.uint8)
    rows = rows.at[jnp.where(begins, places, size)].set(packed[order], mode="drop")
    return PaddedCounts(rows, counts, begins.sum(dtype=int), weights.sum(), neurons, fill)


def _words(packed: jax.Array) -> list[jax.Array]:
    """Return rows as 32-bit words, the highest first: their order is that of the rows."""
    rows, width = packed.shape
    words = -(-width // 4)
    padded = jnp.pad(packed, ((0, 0), (0, 4 * words - width))).reshape(rows, words, 4)
    numbers = jax.lax.bitcast_convert_type(padded, jnp.uint32)
    return [numbers[:, word] for word in reversed(range(words))]
