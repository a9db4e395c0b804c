"""LLVM intrinsics for Numba kernels: vectors of lanes, raw loads and stores.

A comparison of N lanes bitcast from <N x i1> to an N-bit integer is a portable "movemask": LLVM
lowers it to AVX-512 masks, AVX2/SSE2 movmsk or NEON sequences. It does not find that form in scalar
loops by itself. Every access is by address, of alignment 1.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import inlined

_BIT, _BYTE, _WORD = ir.IntType(1), ir.IntType(8), ir.IntType(64)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of ``lanes`` times the same number."""
    first = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), None), value, first)
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(first.type, lanes), None))


class _Test:
    """The kernels' ``test`` tuple: low, high, bias, flip, lows, highs.

    A number fires when low <= key <= high; key = bits ^ bias ^ ((bits >> width - 1) & flip), or
    just the bits where bias and flip are None. ``lows`` and ``highs`` are None, or the addresses of
    one low and high for each neuron. Each combination of Nones compiles to its own code.
    """

    def __init__(self, builder: Any, kind: Any, value: Any) -> None:
        self.builder = builder
        self.low, self.high, self.bias, self.flip, self.lows, self.highs = (
            builder.extract_value(value, i) for i in range(6)
        )
        self.bits = self.low.type
        self.transformed = not isinstance(kind.types[2], types.NoneType)
        self.per_neuron = not isinstance(kind.types[4], types.NoneType)

    def fires(self, address: Any, neuron: Any, lanes: int, *, along_neurons: bool) -> Any:
        """<lanes x i1> for the numbers at ``address``, the first of which is of ``neuron``."""
        builder, vector = self.builder, ir.VectorType(self.bits, lanes)
        key = self._key(_load(builder, address, vector), lanes)
        low, high = self.low, self.high
        if self.per_neuron:
            offset = builder.mul(neuron, ir.Constant(_WORD, self.bits.width // 8))
            kind = vector if along_neurons else self.bits
            low, high = (
                _load(builder, builder.add(table, offset), kind)
                for table in (self.lows, self.highs)
            )
        if low.type != vector:
            low, high = (_splat(builder, side, lanes) for side in (low, high))
        above = builder.icmp_signed(">=", key, low)
        return builder.and_(above, builder.icmp_signed("<=", key, high))

    def _key(self, bits: Any, lanes: int) -> Any:
        if not self.transformed:
            return bits
        builder = self.builder
        shift = _splat(builder, ir.Constant(self.bits, self.bits.width - 1), lanes)
        flipped = builder.and_(builder.ashr(bits, shift), _splat(builder, self.flip, lanes))
        return builder.xor(builder.xor(bits, _splat(builder, self.bias, lanes)), flipped)


def _fires_mask(lanes: int) -> Any:
    @intrinsic
    def fires(typing: Any, address: Any, test: Any, neuron: Any) -> Any:
        """Which of the lanes at ``address`` fire; lane i is bit i, and neuron ``neuron`` + i."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            mask = _Test(builder, signature.args[1], args[1]).fires(
                args[0], args[2], lanes, along_neurons=True
            )
            mask = builder.bitcast(mask, ir.IntType(lanes))
            return mask if lanes == 64 else builder.zext(mask, _WORD)

        return types.uint64(address, test, types.int64), code

    return fires


def _fires_plane(lanes: int) -> Any:
    @intrinsic
    def fires(typing: Any, address: Any, test: Any, neuron: Any, bit: Any, target: Any) -> Any:
        """Add a neuron's bit to the bytes at ``target`` whose lanes fire; bit 0 makes them new."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, value, neuron, bit, target = args
            kind = ir.VectorType(_BYTE, lanes)
            nothing = ir.Constant(kind, None)
            mask = _Test(builder, signature.args[1], value).fires(
                address, neuron, lanes, along_neurons=False
            )
            one = builder.shl(ir.Constant(_BYTE, 1), builder.trunc(bit, _BYTE))
            fired = builder.select(mask, _splat(builder, one, lanes), nothing)
            is_new = builder.icmp_unsigned("==", bit, ir.Constant(_WORD, 0))
            old = builder.select(is_new, nothing, _load(builder, target, kind))
            _store(builder, builder.or_(old, fired), target)
            return context.get_dummy_value()

        kinds = (types.int64, test, types.int64, types.int64, types.int64)
        return types.none(*kinds), code

    return fires


@intrinsic
def store_transposed(typing: Any, source: Any, stride: Any, target: Any, width: Any) -> Any:
    """Eight bytes from each of eight rows, ``stride`` apart, to eight words ``width`` apart.

    Byte j of word k is byte k of row j.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, stride, target, width = args
        rows = ir.Constant(ir.VectorType(_WORD, 8), None)
        for j in range(8):
            row = _load(builder, source, _WORD)
            rows = builder.insert_element(rows, row, ir.Constant(ir.IntType(32), j))
            source = builder.add(source, stride)
        bytes_ = builder.bitcast(rows, ir.VectorType(_BYTE, 64))
        order = [ir.Constant(ir.IntType(32), 8 * j + k) for k in range(8) for j in range(8)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 64), order)
        turned = builder.bitcast(builder.shuffle_vector(bytes_, bytes_, mask), rows.type)
        for k in range(8):
            word = builder.extract_element(turned, ir.Constant(ir.IntType(32), k))
            _store(builder, word, target)
            target = builder.add(target, width)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, types.int64), code


def _spread(lanes: int) -> Any:
    @intrinsic
    def spread(typing: Any, word: Any, target: Any) -> Any:
        """Store bit i of ``word`` (uint64) as the byte 0 or 1 at ``target`` + i."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = args[0] if lanes == 64 else builder.trunc(args[0], ir.IntType(lanes))
            mask = builder.bitcast(word, ir.VectorType(_BIT, lanes))
            _store(builder, builder.zext(mask, ir.VectorType(_BYTE, lanes)), args[1])
            return context.get_dummy_value()

        return types.none(word, target), code

    return spread


fires_1, fires_8, fires_16, fires_32, fires_64 = map(_fires_mask, (1, 8, 16, 32, 64))
plane_1, plane_16, plane_64 = map(_fires_plane, (1, 16, 64))
spread_8, spread_16, spread_32, spread_64 = map(_spread, (8, 16, 32, 64))


def _raw_load(bits: int) -> Any:
    @intrinsic
    def load(typing: Any, address: Any) -> Any:
        """Read an unsigned integer, widened to uint64."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = _load(builder, args[0], ir.IntType(bits))
            return value if bits == 64 else builder.zext(value, _WORD)

        return types.uint64(address), code

    return load


def _raw_store(bits: int) -> Any:
    @intrinsic
    def store(typing: Any, value: Any, address: Any) -> Any:
        """Write the low bits of a uint64."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = args[0] if bits == 64 else builder.trunc(args[0], ir.IntType(bits))
            _store(builder, value, args[1])
            return context.get_dummy_value()

        return types.none(types.uint64, address), code

    return store


load_byte, load_word = _raw_load(8), _raw_load(64)
store_byte, store_word = _raw_store(8), _raw_store(64)


@intrinsic
def count_ones(typing: Any, word: Any) -> Any:
    """Set bits of a uint64, by the hardware's instruction where there is one."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


_WORDS = ir.VectorType(_WORD, 8)


def _count_ones_of_each(builder: Any, address: Any) -> Any:
    kind = ir.FunctionType(_WORDS, [_WORDS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.ctpop.v8i64")
    return builder.call(function, [_load(builder, address, _WORDS)])


@intrinsic
def count_ones_64(typing: Any, address: Any) -> Any:
    """Set bits of 64 bytes, all at once where the hardware can."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORDS])
        add = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.add.v8i64")
        return builder.call(add, [_count_ones_of_each(builder, args[0])])

    return types.uint64(address), code


@intrinsic
def count_ones_of_words(typing: Any, address: Any, target: Any) -> Any:
    """Set bits of each of eight words at ``address``, as eight int32 at ``target``."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ones = _count_ones_of_each(builder, args[0])
        _store(builder, builder.trunc(ones, ir.VectorType(ir.IntType(32), 8)), args[1])
        return context.get_dummy_value()

    return types.none(address, target), code


def _differ(size: int) -> Any:
    @intrinsic
    def differ(typing: Any, one: Any, other: Any) -> Any:
        """Whether ``size`` bytes at two addresses differ anywhere."""

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.VectorType(_BYTE, size)
            unequal = builder.icmp_unsigned(
                "!=", _load(builder, args[0], kind), _load(builder, args[1], kind)
            )
            mask = builder.bitcast(unequal, ir.IntType(size))
            return builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))

        return types.boolean(one, other), code

    return differ


differ_16, differ_64 = _differ(16), _differ(64)


@intrinsic
def fold_multiply(typing: Any, one: Any, other: Any) -> Any:
    """The 128-bit product of two uint64, its halves XORed: each bit of both reaches the result."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.xor(builder.trunc(product, _WORD), builder.trunc(high, _WORD))

    return types.uint64(types.uint64, types.uint64), code


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Ask for the cache line at ``address``; harmless for any address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _BYTE.as_pointer()
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        constants = [ir.Constant(flag, number) for number in (0, 3, 1)]
        builder.call(function, [builder.inttoptr(args[0], pointer), *constants])
        return context.get_dummy_value()

    return types.none(address), code


@inlined
def address_of(array: Any) -> Any:
    """Address of an array's first element, signed: Numba makes uint64 + int64 a float."""
    return np.int64(array.ctypes.data)
