"""LLVM intrinsics for kernels: vectors of lanes, which test many numbers at a time.

A comparison of N lanes bitcast from <N x i1> to an N-bit integer is a portable "movemask": LLVM
lowers it to AVX-512 masks, AVX2/SSE2 movmsk or NEON sequences. It does not derive that form from
scalar loops.
"""

import platform
from collections.abc import Callable

from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from llvmlite.ir import Value
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext as Context
from numba.core.typing import Signature
from numba.extending import intrinsic
from numba.types import Type

from .intrinsics import emit_load, emit_prefetch, emit_store
from .kernel_types import AddBits, CountPairs, Declared, Int, Mask, Plane, Store, Test, Values

widens_bits = platform.machine().lower() in ("x86_64", "amd64")  # see _bools()

_BIT, _BYTE, _COUNT, _WORD = map(ir.IntType, (1, 8, 32, 64))


def _splat(builder: Builder, value: Value, lanes: int) -> Value:
    """Return a vector with the same number in every lane."""
    first = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), None), value, first)
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(first.type, lanes), None))


class _FiringMaskBuilder:
    """Generates code for the kernels' ``test`` tuple: shift, limit, bias, flip, lows, highs.

    A number has a key: bits ^ bias ^ ((bits >> width - 1) & flip), where None means 0. It fires if
    key + shift > limit, where the sum wraps around: one comparison that stands for two, see
    pack.py. Or it fires if low <= key <= high, where ``lows`` and ``highs`` are the addresses of
    one low and one high for each neuron. Each combination of Nones compiles to separate code.
    """

    def __init__(self, builder: Builder, kind: Type, value: Value) -> None:
        self.builder = builder
        self.shift, self.limit, self.bias, self.flip, self.lows, self.highs = (
            builder.extract_value(value, i) for i in range(6)
        )
        assert isinstance(kind, types.BaseTuple)
        assert isinstance(self.shift.type, ir.IntType)
        self.bits = self.shift.type
        self.biased, self.flipped, self.per_neuron = (
            not isinstance(kind.types[i], types.NoneType) for i in (2, 3, 4)
        )

    def build_mask(
        self, address: Value, neuron: Value, lanes: int, *, along_neurons: bool
    ) -> Value:
        """Build the <lanes x i1> of the numbers at ``address``; the first is of ``neuron``."""
        builder, vector = self.builder, ir.VectorType(self.bits, lanes)
        key = self._key(emit_load(builder, address, vector), lanes)
        if self.per_neuron:
            return self._between(key, neuron, vector if along_neurons else self.bits, lanes)
        shifted = builder.add(key, _splat(builder, self.shift, lanes))
        return builder.icmp_signed(">", shifted, _splat(builder, self.limit, lanes))

    def _between(self, key: Value, neuron: Value, kind: ir.Type, lanes: int) -> Value:
        """Compare with the bounds of each neuron, or of one if ``kind`` is that of a number."""
        builder = self.builder
        offset = builder.mul(neuron, ir.Constant(_WORD, self.bits.width // 8))
        low, high = (
            emit_load(builder, builder.add(table, offset), kind)
            for table in (self.lows, self.highs)
        )
        if kind == self.bits:
            low, high = (_splat(builder, side, lanes) for side in (low, high))
        above = builder.icmp_signed(">=", key, low)
        return builder.and_(above, builder.icmp_signed("<=", key, high))

    def _key(self, bits: Value, lanes: int) -> Value:
        builder, key = self.builder, bits
        if self.flipped:
            shift = _splat(builder, ir.Constant(self.bits, self.bits.width - 1), lanes)
            signs = builder.ashr(bits, shift)
            key = builder.xor(key, builder.and_(signs, _splat(builder, self.flip, lanes)))
        return builder.xor(key, _splat(builder, self.bias, lanes)) if self.biased else key


def _make_firing_mask(lanes: int) -> Mask:
    @intrinsic
    def firing_mask(typing: object, address: Type, test: Type, neuron: Type) -> Declared:
        """Return a bit for each lane at ``address`` that fires; lane i is neuron ``neuron`` + i."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            mask = _FiringMaskBuilder(builder, signature.args[1], args[1]).build_mask(
                args[0], args[2], lanes, along_neurons=True
            )
            mask = builder.bitcast(mask, ir.IntType(lanes))
            return mask if lanes == 64 else builder.zext(mask, _WORD)

        return types.uint64(address, test, types.int64), code

    return firing_mask


def _make_add_plane(lanes: int) -> Plane:
    @intrinsic
    def add_plane(
        typing: object, address: Type, test: Type, neuron: Type, bit: Type, target: Type
    ) -> Declared:
        """Set a neuron's bit in the bytes at ``target`` whose lanes fire; bit 0 clears the rest."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            address, value, neuron, bit, target = args
            kind = ir.VectorType(_BYTE, lanes)
            nothing = ir.Constant(kind, None)
            mask = _FiringMaskBuilder(builder, signature.args[1], value).build_mask(
                address, neuron, lanes, along_neurons=False
            )
            one = builder.shl(ir.Constant(_BYTE, 1), builder.trunc(bit, _BYTE))
            fired = builder.select(mask, _splat(builder, one, lanes), nothing)
            is_new = builder.icmp_unsigned("==", bit, ir.Constant(_WORD, 0))
            old = builder.select(is_new, nothing, emit_load(builder, target, kind))
            emit_store(builder, builder.or_(old, fired), target)
            return context.get_dummy_value()

        kinds = (types.int64, test, types.int64, types.int64, types.int64)
        return types.none(*kinds), code

    return add_plane


def _fetch_64(typing: object, address: Type, test: Type) -> Declared:
    """Prefetch the lines of 64 numbers at ``address``. Any address is harmless."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        number = builder.extract_value(args[1], 0).type
        assert isinstance(number, ir.IntType)
        for line in range(number.width // 8):
            emit_prefetch(builder, builder.add(args[0], ir.Constant(_WORD, 64 * line)))
        return context.get_dummy_value()

    return types.none(types.int64, test), code


def _store_transposed(
    typing: object, source: Type, stride: Type, target: Type, width: Type
) -> Declared:
    """Copy eight bytes of each of eight rows, ``stride`` apart, to eight words ``width`` apart.

    Byte j of word k is byte k of row j.
    """

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        source, stride, target, width = args
        rows: Value = ir.Constant(ir.VectorType(_WORD, 8), None)
        for j in range(8):
            row = emit_load(builder, source, _WORD)
            rows = builder.insert_element(rows, row, ir.Constant(ir.IntType(32), j))
            source = builder.add(source, stride)
        bytes_ = builder.bitcast(rows, ir.VectorType(_BYTE, 64))
        order = [ir.Constant(ir.IntType(32), 8 * j + k) for k in range(8) for j in range(8)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 64), order)
        turned = builder.bitcast(builder.shuffle_vector(bytes_, bytes_, mask), rows.type)
        for k in range(8):
            word = builder.extract_element(turned, ir.Constant(ir.IntType(32), k))
            emit_store(builder, word, target)
            target = builder.add(target, width)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, types.int64), code


def _bools(builder: Builder, word: Value, lanes: int) -> Value:
    """Return bit i of a word as byte i, 0 or 1, of a vector.

    On x86 the bits are widened: a mask, with AVX-512. Of the same, LLVM makes 135 instructions for
    64 bits on ARM. There each byte is copied to eight lanes, which keep a bit each: 20.
    """
    index, kind = ir.IntType(32), ir.VectorType(_BYTE, lanes)
    if widens_bits:
        return builder.zext(builder.bitcast(word, ir.VectorType(_BIT, lanes)), kind)
    bytes_ = builder.bitcast(word, ir.VectorType(_BYTE, lanes // 8))
    order = [ir.Constant(index, lane // 8) for lane in range(lanes)]
    copies = builder.shuffle_vector(bytes_, bytes_, ir.Constant(ir.VectorType(index, lanes), order))
    own = ir.Constant(kind, [ir.Constant(_BYTE, 1 << lane % 8) for lane in range(lanes)])
    fired = builder.icmp_unsigned("!=", builder.and_(copies, own), ir.Constant(kind, None))
    return builder.zext(fired, kind)


def _make_store_bools(lanes: int) -> Store:
    @intrinsic
    def store_bools(typing: object, word: Type, target: Type) -> Declared:
        """Store bit i of ``word`` (uint64) as the byte 0 or 1 at ``target`` + i."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            word = args[0] if lanes == 64 else builder.trunc(args[0], ir.IntType(lanes))
            emit_store(builder, _bools(builder, word, lanes), args[1])
            return context.get_dummy_value()

        return types.none(word, target), code

    return store_bools


def _make_add_bits(rows: int) -> AddBits:
    @intrinsic
    def add_bits(typing: object, source: Type, stride: Type, target: Type) -> Declared:
        """Add bit i of each of ``rows`` words, ``stride`` apart, to the byte at ``target`` + i."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            source, stride, target = args
            kind = ir.VectorType(_BYTE, 64)
            sums = emit_load(builder, target, kind)
            for _ in range(rows):
                word = emit_load(builder, source, _WORD)
                sums = builder.add(sums, _bools(builder, word, 64))
                source = builder.add(source, stride)
            emit_store(builder, sums, target)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64, types.int64), code

    return add_bits


def _make_count_differences(blocks: int) -> CountPairs:
    """``blocks`` of 64 bytes: at most 31, for a byte of a sum holds no more than 255."""

    @intrinsic
    def count_differences(typing: object, one: Type, other: Type) -> Declared:
        """Count the bits that differ between the bytes at two addresses."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            one, other = args
            kind, wide = ir.VectorType(_BYTE, 64), ir.VectorType(_COUNT, 64)
            ones = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind]), "llvm.ctpop.v64i8"
            )
            add = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(_COUNT, [wide]),
                "llvm.vector.reduce.add.v64i32",
            )
            sums: Value = ir.Constant(kind, None)
            for block in range(blocks):
                offset = ir.Constant(_WORD, 64 * block)
                left, right = (
                    emit_load(builder, builder.add(side, offset), kind) for side in (one, other)
                )
                sums = builder.add(sums, builder.call(ones, [builder.xor(left, right)]))
            return builder.zext(builder.call(add, [builder.zext(sums, wide)]), _WORD)

        return types.int64(types.int64, types.int64), code

    return count_differences


# The intrinsics, with their types inside kernels.
fetch_64: Callable[[Int, Test], None] = intrinsic(_fetch_64)
store_transposed: Callable[[Int, Int, Int, Int], None] = intrinsic(_store_transposed)
firing_mask_1, firing_mask_8, firing_mask_16, firing_mask_32, firing_mask_64 = map(
    _make_firing_mask, (1, 8, 16, 32, 64)
)
add_plane_1, add_plane_16, add_plane_64 = map(_make_add_plane, (1, 16, 64))
store_bools_8, store_bools_16, store_bools_32, store_bools_64 = map(
    _make_store_bools, (8, 16, 32, 64)
)
add_bits_1, add_bits_8 = map(_make_add_bits, (1, 8))
count_differences_64, count_differences_512 = map(_make_count_differences, (1, 8))
