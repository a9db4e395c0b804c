"""A small user program: CI type-checks it against the installed wheel, and runs it."""

from typing import TYPE_CHECKING, assert_type

import numpy as np
from numpy.typing import NDArray

import tensorstate_gpu as ts
from tensorstate_gpu import bits as bits_of

activations = np.random.default_rng(0).standard_normal((1000, 12)).astype(np.float32)
packed = assert_type(ts.compress_states(activations), NDArray[np.uint8])
states = assert_type(ts.decompress_states(packed, 12), NDArray[np.bool_])
firing = assert_type(ts.popcount(packed), NDArray[np.int32])
edges, order = assert_type(ts.sort_states(packed), tuple[NDArray[np.int64], NDArray[np.int64]])
counts = assert_type(ts.count_states(packed, neurons=12), ts.StateCounts)
both = assert_type(counts + counts, ts.StateCounts)
numbers = assert_type(both.counts, NDArray[np.int64])
bits = assert_type(ts.entropy(counts), float)
distances = assert_type(bits_of.hamming_distances(packed, packed[:2]), NDArray[np.int32])
nearest = assert_type(
    bits_of.nearest_states(packed, packed[:2]), tuple[NDArray[np.int64], NDArray[np.int32]]
)
near = assert_type(bits_of.states_within(packed, packed[:2], 1), NDArray[np.int64])
known = assert_type(bits_of.isin(packed, packed[:2]), NDArray[np.bool_])
distinct = bits_of.unique(packed)
distinct_rows = assert_type(distinct.packed, NDArray[np.uint8])
inverse = assert_type(distinct.inverse, NDArray[np.int64])
same_bits = (ts.entropy(counts.counts), ts.entropy(counts.counts.tolist()))

if packed.shape != (1000, 2) or int(numbers.sum()) != 2000:
    raise SystemExit("wrong shape or counts")
if not 0 < bits <= 12 or abs(ts.entropy(both) - bits) > 1e-9:
    raise SystemExit("wrong entropy")
if not np.array_equal(states, activations > 0) or not np.array_equal(firing, states.sum(1)):
    raise SystemExit("packing does not invert")
if len(edges) != len(counts) + 1 or set(same_bits) != {bits} or len(order) != 1000:
    raise SystemExit("wrong order")
for typed, kind in ((distances, "i4"), (nearest[0], "i8"), (nearest[1], "i4"), (known, "?")):
    if typed.dtype != kind:
        raise SystemExit("wrong type")
if near.shape[1] != 2 or not np.array_equal(distinct_rows[inverse], packed):
    raise SystemExit("wrong pairs or distinct states")


class Framework:
    """Another library's array, for the type checker only: the functions return its own type."""

    def __dlpack__(self, *, stream: object = None) -> object:
        raise BufferError("this array has no memory")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def keep_type(array: Framework) -> Framework:
    return assert_type(ts.compress_states(array, threshold=[0.5] * 12), Framework)


# Of callbacks, too, whose frameworks need not be installed here.
if TYPE_CHECKING:
    from tensorstate_gpu.training import EfficiencyCallback, EfficiencyMonitor, StateEfficiency

    assert_type(EfficiencyCallback("Linear", every_n_steps=9).monitor, ts.StateMonitor | None)
    assert_type(EfficiencyMonitor("Linear", window=2).monitor, ts.StateMonitor | None)
    assert_type(StateEfficiency("Dense", update_freq="batch").run, ts.Run)
    EfficiencyCallback(every_n_step=9)  # type: ignore[call-arg]
    EfficiencyMonitor(every_n_steps="9")  # type: ignore[arg-type]
    StateEfficiency(update_freq="step")  # type: ignore[arg-type]

# The types are seen, not Any: without these mistakes mypy would call the comments unused.
try:
    ts.compress_states([[0.5]])  # type: ignore[call-overload]
except TypeError as error:
    print(f"refused as it should be: {error}")
try:
    ts.count_states(packed, neurons="12")  # type: ignore[call-overload]
except TypeError as error:
    print(f"{bits:.3f} bits; refused as it should be: {error}")
