"""Plain loops of the kernels' own kind, which regression_guard.py times beside them.

Each works as the kernel that it stands for (the same vectors, tables and digits; memory read and
written in the same order), but for one kind of data only, without its checks. What a processor or
its load does to one it does to the other: ratios hardly depend on the machine. Nothing of
cpu_fallback/ is used here: a mistake there must not slow both.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_BYTE, _INT, _WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)
BATCH = 32  # rows hashed ahead of their probes


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    kind, zero = ir.VectorType(value.type, lanes), ir.Constant(_INT, 0)
    one = builder.insert_element(ir.Constant(kind, None), value, zero)
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT, lanes), None))


def _within(builder: Any, address: Any, low: Any, high: Any) -> Any:
    """<64 x i1>: which of 64 numbers, as integers, lie between two."""
    kind = ir.VectorType(low.type, 64)
    keys = builder.load(_pointer(builder, address, kind), align=1)
    above = builder.icmp_signed(">=", keys, _splat(builder, low, 64))
    return builder.and_(above, builder.icmp_signed("<=", keys, _splat(builder, high, 64)))


@intrinsic
def within(typing: Any, address: Any, low: Any, high: Any) -> Any:
    """Which of the 64 numbers at ``address`` are in [low, high], as the bits of a word."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(_within(builder, *args), _WORD)

    return types.uint64(address, low, high), code


@intrinsic
def add_within(typing: Any, address: Any, low: Any, high: Any, bit: Any, target: Any) -> Any:
    """OR ``bit`` into those of the 64 bytes at ``target`` whose numbers are in [low, high]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, low, high, bit, target = args
        kind = ir.VectorType(_BYTE, 64)
        mask = _within(builder, address, low, high)
        bits = _splat(builder, builder.trunc(bit, _BYTE), 64)
        bits = builder.select(mask, bits, ir.Constant(kind, None))
        place = _pointer(builder, target, kind)
        builder.store(builder.or_(builder.load(place, align=1), bits), place, align=1)
        return context.get_dummy_value()

    return types.none(address, low, high, bit, target), code


@intrinsic
def transpose(typing: Any, source: Any, stride: Any, target: Any, width: Any) -> Any:
    """Eight bytes from each of eight rows to eight words, of which each has a byte of each row."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, stride, target, width = args
        rows = ir.Constant(ir.VectorType(_WORD, 8), None)
        for j in range(8):
            row = builder.load(_pointer(builder, source, _WORD), align=1)
            rows = builder.insert_element(rows, row, ir.Constant(_INT, j))
            source = builder.add(source, stride)
        flat = builder.bitcast(rows, ir.VectorType(_BYTE, 64))
        order = [ir.Constant(_INT, 8 * j + k) for k in range(8) for j in range(8)]
        turned = builder.shuffle_vector(flat, flat, ir.Constant(ir.VectorType(_INT, 64), order))
        turned = builder.bitcast(turned, rows.type)
        for k in range(8):
            word = builder.extract_element(turned, ir.Constant(_INT, k))
            builder.store(word, _pointer(builder, target, _WORD), align=1)
            target = builder.add(target, width)
        return context.get_dummy_value()

    return types.none(source, stride, target, width), code


@intrinsic
def spread(typing: Any, word: Any, target: Any) -> Any:
    """The bits of a word as 64 bytes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.VectorType(ir.IntType(1), 64))
        kind = ir.VectorType(_BYTE, 64)
        builder.store(builder.zext(bits, kind), _pointer(builder, args[1], kind), align=1)
        return context.get_dummy_value()

    return types.none(word, target), code


@intrinsic
def load(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0], _WORD), align=1)

    return types.uint64(address), code


@intrinsic
def store(typing: Any, word: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[0], _pointer(builder, args[1], _WORD), align=1)
        return context.get_dummy_value()

    return types.none(types.uint64, address), code


@intrinsic
def fetch(typing: Any, address: Any) -> Any:
    """Ask for a cache line."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _BYTE.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        how = [ir.Constant(_INT, number) for number in (0, 3, 1)]
        builder.call(function, [builder.inttoptr(args[0], pointer), *how])
        return context.get_dummy_value()

    return types.none(address), code


@intrinsic
def mix(typing: Any, one: Any, other: Any) -> Any:
    """Both halves of a product, XORed."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(factor, wide) for factor in args))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.xor(builder.trunc(product, _WORD), builder.trunc(high, _WORD))

    return types.uint64(types.uint64, types.uint64), code


@njit(cache=True)
def pack_rows(
    source: int, size: int, low: Any, high: Any, target: int, rows: int, words: int
) -> None:
    """Rows of so many words of 64 numbers of ``size`` bytes, one after the other."""
    for _ in range(rows):
        for word in range(words):
            store(within(source + 64 * size * word, low, high), target + 8 * word)
        source += 64 * size * words
        target += 8 * words


@njit(cache=True)
def pack_narrow(
    source: int, size: int, low: Any, high: Any, target: int, rows: int, neurons: int
) -> None:
    """Rows of fewer than 57 numbers, cut out of the words of 64 rows side by side."""
    words = np.empty(neurons + 1, np.uint64)
    bits, width = np.int64(words.ctypes.data), (neurons + 7) // 8
    mask = (np.uint64(1) << np.uint64(neurons)) - np.uint64(1)
    for _ in range(rows // 64):
        pack_rows(source, size, low, high, bits, 1, neurons)
        source += 64 * neurons * size
        for place in range(0, 64 * neurons, neurons):
            store((load(bits + place // 8) >> np.uint64(place % 8)) & mask, target)
            target += width


@njit(cache=True)
def pack_planes(
    source: int, size: int, low: Any, high: Any, target: int, maps: int, neurons: int, places: int
) -> None:
    """(maps, neurons, places): bits gathered in eight rows of bytes, their columns stored."""
    block = np.empty((8, (places + 63) // 64 * 64), np.uint8)
    rows, row, width = np.int64(block.ctypes.data), block.shape[1], neurons // 8
    for _ in range(maps):
        for word in range(neurons // 64):
            block[:] = 0
            for neuron in range(64):
                for place in range(0, places, 64):
                    to = rows + neuron // 8 * row + place
                    add_within(source + place * size, low, high, 1 << (neuron % 8), to)
                source += places * size
            for place in range(0, places, 8):
                transpose(rows + place, row, target + place * width + 8 * word, width)
        target += places * width


@njit(cache=True)
def unpack_rows(source: int, target: int, rows: int, words: int) -> None:
    """Rows of so many words."""
    for _ in range(rows):
        for word in range(words):
            spread(load(source + 8 * word), target + 64 * word)
        source += 8 * words
        target += 64 * words
