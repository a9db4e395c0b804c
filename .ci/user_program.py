"""A small user program: CI type-checks it against the installed wheel, and runs it."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import tensorstate_gpu as ts

activations = np.random.default_rng(0).standard_normal((1000, 12)).astype(np.float32)
packed = ts.compress_states(activations)
counts = assert_type(ts.count_states(packed, neurons=12), ts.StateCounts)
both = assert_type(counts + counts, ts.StateCounts)
numbers = assert_type(both.counts, NDArray[np.int64])
bits = assert_type(ts.entropy(counts), float)

if packed.shape != (1000, 2) or int(numbers.sum()) != 2000:
    raise SystemExit("wrong shape or counts")
if not 0 < bits <= 12 or abs(ts.entropy(both) - bits) > 1e-9:
    raise SystemExit("wrong entropy")
if not np.array_equal(ts.decompress_states(packed, 12), activations > 0):
    raise SystemExit("packing does not invert")

# The types are seen, not Any: without this mistake mypy would call the comment unused.
try:
    ts.count_states(packed, neurons="12")  # type: ignore[arg-type]
except TypeError as error:
    print(f"{bits:.3f} bits; refused as it should be: {error}")
