"""A plain NumPy oracle of the array functions, and Hypothesis strategies, for our tests and yours.

The oracle shares no code with the library. It decodes every format of up to 32 bits to the float64
of the same value, where none is subnormal, and compares the bits of float64 numbers as integers:
neither flush-to-zero nor rounding can change a result.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover
    raise ImportError("tensorstate_gpu.testing needs Hypothesis: pip install hypothesis") from error

__all__ = [
    "ELEMENTS",
    "activations",
    "compress",
    "count",
    "decompress",
    "packed_states",
    "popcount",
    "sort",
    "special_bits",
]

# Float formats: bytes, mantissa bits, exponent bias, and what the bit patterns at the end mean.
FLOATS = {
    "float16": (2, 10, 15, "ieee"),
    "bfloat16": (2, 7, 127, "ieee"),
    "float32": (4, 23, 127, "ieee"),
    "float64": (8, 52, 1023, "ieee"),
    "float8_e4m3fn": (1, 3, 7, "fn"),  # no infinity; all bits but the sign set: NaN
    "float8_e5m2": (1, 2, 15, "ieee"),
    "float8_e4m3fnuz": (1, 3, 8, "fnuz"),  # nor -0.0: its pattern is the only NaN
    "float8_e5m2fnuz": (1, 2, 16, "fnuz"),
}
INTEGERS = tuple(f"{sign}int{width}" for sign in ("", "u") for width in (8, 16, 32, 64))
ELEMENTS = (*FLOATS, *INTEGERS, "bool")
_MAGNITUDE, _INFINITY = (1 << 63) - 1, 0x7FF << 52


def compress(
    x: NDArray[Any], neuron_axis: int = -1, threshold: Any = 0.0, element: str | None = None
) -> NDArray[np.uint8]:
    """What `tensorstate_gpu.compress_states` must return.

    Parameters
    ----------
    x : array of shape (states, neurons), or of more axes
    neuron_axis : int
    threshold : real number, or one per neuron
    element : str, optional
        Name of the number format, when ``x`` holds its bit patterns as unsigned integers: NumPy has
        no bfloat16. By default the name of the dtype.

    Returns
    -------
    uint8 array of shape (states, ceil(neurons / 8))

    Examples
    --------
    >>> compress(np.array([[0x3F80, 0x8000, 0x0001]], np.uint16), element="bfloat16")
    array([[5]], dtype=uint8)
    """
    moved = np.moveaxis(x, neuron_axis, -1)
    states = math.prod(moved.shape[:-1])
    rows = moved.reshape(states, moved.shape[-1])
    name = element or x.dtype.name
    if isinstance(threshold, (Sequence, np.ndarray)):
        columns = [_fires(rows[:, k], name, t) for k, t in enumerate(threshold)]
        firing = np.stack(columns, axis=1)
    else:
        firing = _fires(rows, name, threshold)
    return np.packbits(firing, axis=1, bitorder="little")


def decompress(packed: NDArray[np.uint8], neurons: int) -> NDArray[np.bool_]:
    """What `tensorstate_gpu.decompress_states` must return: bool of shape (states, neurons).

    Examples
    --------
    >>> decompress(np.array([[5]], np.uint8), 3)
    array([[ True, False,  True]])
    """
    return np.unpackbits(packed, axis=1, count=neurons, bitorder="little").astype(np.bool_)


def popcount(packed: NDArray[np.uint8]) -> NDArray[np.int32]:
    """What `tensorstate_gpu.popcount` must return: int32 of shape (states,).

    Examples
    --------
    >>> popcount(np.array([[5, 1]], np.uint8))
    array([3], dtype=int32)
    """
    return np.asarray(np.unpackbits(packed, axis=1).sum(axis=1, dtype=np.int32))


def sort(
    packed: NDArray[np.uint8], state_count: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What `tensorstate_gpu.sort_states` must return: edges (distinct + 1,), index (state_count,).

    Examples
    --------
    >>> sort(np.array([[3], [0], [3]], np.uint8))
    (array([0, 1, 3]), array([1, 0, 2]))
    """
    ids = [row.tobytes() for row in packed[:state_count]]
    index = sorted(range(len(ids)), key=lambda row: int.from_bytes(ids[row], "little"))
    first = [at for at in range(len(ids)) if at == 0 or ids[index[at]] != ids[index[at - 1]]]
    edges = [*first, len(ids)] if ids else [0]
    return np.array(edges, np.int64), np.array(index, np.int64)


def count(packed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """What `tensorstate_gpu.count_states` must find: packed (distinct, bytes), counts (distinct,).

    Examples
    --------
    >>> count(np.array([[3], [0], [3]], np.uint8))[1]
    array([1, 2])
    """
    edges, index = sort(packed)
    return packed[index[edges[:-1]]], np.diff(edges)


def _fires(values: NDArray[Any], element: str, threshold: Any) -> NDArray[np.bool_]:
    if element not in FLOATS:
        return _integer_fires(values.view("uint8" if element == "bool" else element), threshold)
    bits = values.view(f"uint{8 * values.itemsize}")
    bits = (bits if element == "float64" else _decode(bits, element).view(np.uint64)).view(np.int64)
    limit = np.array(_round_down(threshold)).view(np.int64)
    return np.asarray(((bits & _MAGNITUDE) <= _INFINITY) & (_key(bits) > _key(limit)))


def _key(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """An integer that rises with the float64; both zeros have the same."""
    return np.where(bits < 0, -(bits & _MAGNITUDE), bits)


def _decode(bits: NDArray[Any], element: str) -> NDArray[np.float64]:
    size, mantissa_bits, bias, style = FLOATS[element]
    magnitude = bits.astype(np.int64) & ((1 << (8 * size - 1)) - 1)
    exponent, mantissa = magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1)
    significand = mantissa + np.where(exponent > 0, 1 << mantissa_bits, 0)
    scale = (np.maximum(exponent, 1) - bias - mantissa_bits).astype(np.int32)
    value = np.ldexp(significand.astype(np.float64), scale)
    last = (1 << (8 * size - 1 - mantissa_bits)) - 1
    negative = bits >> (8 * size - 1) != 0
    if style == "ieee":
        value[exponent == last] = np.where(mantissa == 0, np.inf, np.nan)[exponent == last]
    elif style == "fn":
        value[magnitude == (1 << (8 * size - 1)) - 1] = np.nan
    else:
        value[negative & (magnitude == 0)] = np.nan
    return np.asarray(np.where(negative, -value, value))


def _round_down(threshold: Any) -> float:
    """The largest float64 that is not above the number: what exceeds one exceeds the other."""
    try:
        nearest = float(threshold)
    except OverflowError:
        return float(np.finfo(np.float64).max) if threshold > 0 else -math.inf
    if math.isinf(nearest) or Fraction(nearest) <= Fraction(threshold):
        return nearest
    return math.nextafter(nearest, -math.inf)


def _integer_fires(values: NDArray[Any], threshold: Any) -> NDArray[np.bool_]:
    lowest, highest = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
    if threshold < lowest or threshold >= highest:
        return np.full(values.shape, threshold < lowest)
    return np.asarray(values > values.dtype.type(math.floor(threshold)))


def special_bits(element: str) -> list[int]:
    """Bit patterns where mistakes are likely: zeros, subnormals, limits, infinities, NaN payloads.

    Examples
    --------
    >>> [hex(bits) for bits in special_bits("bfloat16")][:4]
    ['0x0', '0x1', '0x7f', '0x80']
    """
    if element == "bool":
        return [0, 1]
    if element not in FLOATS:
        width = int(element.lstrip("uint"))
        half = 1 << (width - 1)
        return [0, 1, half - 1, half, half + 1, 2 * half - 1]
    size, mantissa_bits, _, _ = FLOATS[element]
    normal, sign = 1 << mantissa_bits, 1 << (8 * size - 1)
    infinity = sign - normal  # the patterns from here on are NaN, but in the fn and fnuz formats
    quiet = infinity | normal >> 1
    positive = [0, 1, normal - 1, normal, infinity - 1, infinity, infinity + 1, quiet, sign - 1]
    return sorted({bits | s for bits in positive for s in (0, sign)}, key=lambda b: (b >= sign, b))


def _sliced(x: NDArray[Any], seed: int) -> NDArray[Any]:
    step, start = 2 + seed % 2, seed % 2
    wide = np.full([step * n + start for n in x.shape], x.flat[0] if x.size else 0, x.dtype)
    part = wide[tuple(slice(start, start + step * n, step) for n in x.shape)]
    part[...] = x
    return part


def _reversed(x: NDArray[Any], seed: int) -> NDArray[Any]:
    # Any axes but none at all.
    axes = tuple(k for k in range(x.ndim) if (1 + seed % (2**x.ndim - 1)) >> k & 1)
    return np.asarray(np.flip(np.ascontiguousarray(np.flip(x, axes)), axes))


def _transposed(x: NDArray[Any], seed: int) -> NDArray[Any]:
    # Any order of the axes in memory: NCHW and channels_last among them.
    order = np.random.default_rng(seed).permutation(x.ndim)
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def _broadcast(x: NDArray[Any], seed: int) -> NDArray[Any]:
    first = x.take([0], axis=seed % x.ndim) if x.size else x
    return np.broadcast_to(first, x.shape)


def _misaligned(x: NDArray[Any], seed: int) -> NDArray[Any]:
    offset = 1 + seed % 7
    buffer = np.zeros(x.nbytes + offset, np.uint8)
    array: NDArray[Any] = np.ndarray(x.shape, x.dtype, buffer, offset)
    array[...] = x
    return array


def _read_only(x: NDArray[Any], seed: int) -> NDArray[Any]:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


# Each takes an array and a seed, and gives an equal one (broadcast: its first entry, repeated).
LAYOUTS: dict[str, Callable[[NDArray[Any], int], NDArray[Any]]] = {
    "contiguous": lambda x, _: np.ascontiguousarray(x),
    "sliced": _sliced,
    "reversed": _reversed,
    "transposed": _transposed,
    "broadcast": _broadcast,
    "misaligned": _misaligned,
    "read-only": _read_only,
}


@dataclass(frozen=True)
class Activations:
    """What `activations` draws; ``bits`` has the layout, ``element`` says how to read it."""

    bits: NDArray[Any]
    element: str
    neuron_axis: int
    layout: str

    @property
    def array(self) -> NDArray[Any]:
        """In the format's NumPy dtype, or the bit patterns where NumPy has none."""
        in_numpy = self.element in (*INTEGERS, "float16", "float32", "float64", "bool")
        return self.bits.view(self.element) if in_numpy else self.bits


@st.composite
def activations(
    draw: st.DrawFn, elements: Sequence[str] = ELEMENTS, max_neurons: int = 70
) -> Activations:
    """Arrays of 2 to 5 axes in any format, layout and neuron axis, special values among them."""
    element = draw(st.sampled_from(elements))
    others = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    axis = draw(st.integers(0, len(others)))
    shape = (*others[:axis], draw(st.integers(1, max_neurons)), *others[axis:])
    size = 1 if element == "bool" else FLOATS[element][0] if element in FLOATS else None
    width = 8 * size if size else int(element.lstrip("uint"))
    pattern = st.sampled_from(special_bits(element))
    if element != "bool":
        pattern |= st.integers(0, 2**width - 1)
    pool = np.array(draw(st.lists(pattern, min_size=1, max_size=12)), f"uint{width}")
    seed = draw(st.integers(0, 2**16))
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    bits = LAYOUTS[layout](np.random.default_rng(seed).choice(pool, shape), seed)
    return Activations(bits, element, draw(st.sampled_from([axis, axis - len(shape)])), layout)


@st.composite
def packed_states(
    draw: st.DrawFn, neurons: int | None = None, max_rows: int = 60
) -> tuple[NDArray[np.uint8], int]:
    """Packed states of shape (states, bytes) with repetitions, in any layout, and their neurons."""
    n = draw(st.integers(1, 200)) if neurons is None else neurons
    width = (n + 7) // 8
    state = st.sampled_from([0, 1, 2**n - 1, 2 ** (n - 1)]) | st.integers(0, 2**n - 1)
    pool = [s.to_bytes(width, "little") for s in draw(st.lists(state, min_size=1, max_size=12))]
    seed = draw(st.integers(0, 2**16))
    chosen = np.random.default_rng(seed).choice(len(pool), draw(st.integers(0, max_rows)))
    rows = np.array([list(pool[i]) for i in chosen], np.uint8).reshape(-1, width)
    return LAYOUTS[draw(st.sampled_from(sorted(set(LAYOUTS) - {"broadcast"})))](rows, seed), n
