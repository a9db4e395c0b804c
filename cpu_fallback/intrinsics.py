"""LLVM intrinsics for kernels: loads, stores, and operations on 64-bit words.

Every access is by address, of alignment 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.ir import IRBuilder as Builder
from llvmlite.ir import Value
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext as Context
from numba.core.typing import Signature
from numba.extending import intrinsic
from numba.types import Type

from .compiling import inlined
from .kernel_types import Declared, Differ, Int, KernelArray, Load, Store, Values

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)


def emit_load(builder: Builder, address: Value, kind: ir.Type) -> Value:
    """Add the instructions that load a value, inside an intrinsic."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def emit_store(builder: Builder, value: Value, address: Value) -> None:
    """Add the instructions that store a value, inside an intrinsic."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _raw_load(bits: int) -> Load:
    @intrinsic
    def load(typing: object, address: Type) -> Declared:
        """Read an unsigned integer, widened to uint64."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            value = emit_load(builder, args[0], ir.IntType(bits))
            return value if bits == 64 else builder.zext(value, _WORD)

        return types.uint64(address), code

    return load


def _raw_store(bits: int) -> Store:
    @intrinsic
    def store(typing: object, value: Type, address: Type) -> Declared:
        """Write the low bits of a uint64."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            value = args[0] if bits == 64 else builder.trunc(args[0], ir.IntType(bits))
            emit_store(builder, value, args[1])
            return context.get_dummy_value()

        return types.none(types.uint64, address), code

    return store


load_byte, load_word = _raw_load(8), _raw_load(64)
store_byte, store_word = _raw_store(8), _raw_store(64)


def _count_ones(typing: object, word: Type) -> Declared:
    """Count the set bits of a uint64, with the hardware's instruction if there is one."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


_WORDS = ir.VectorType(_WORD, 8)


def _count_ones_of_each(builder: Builder, address: Value) -> Value:
    kind = ir.FunctionType(_WORDS, [_WORDS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.ctpop.v8i64")
    return builder.call(function, [emit_load(builder, address, _WORDS)])


def _count_ones_64(typing: object, address: Type) -> Declared:
    """Count the set bits of 64 bytes, with vector instructions if the hardware has them."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        kind = ir.FunctionType(_WORD, [_WORDS])
        add = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.add.v8i64")
        return builder.call(add, [_count_ones_of_each(builder, args[0])])

    return types.uint64(address), code


def _count_ones_of_words(typing: object, address: Type, target: Type) -> Declared:
    """Count the set bits of each of eight words at ``address``, into eight int32 at ``target``."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        ones = _count_ones_of_each(builder, args[0])
        emit_store(builder, builder.trunc(ones, ir.VectorType(ir.IntType(32), 8)), args[1])
        return context.get_dummy_value()

    return types.none(address, target), code


def _differ(size: int) -> Differ:
    @intrinsic
    def differ(typing: object, one: Type, other: Type) -> Declared:
        """Return whether ``size`` bytes at two addresses differ."""

        def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
            kind = ir.VectorType(_BYTE, size)
            unequal = builder.icmp_unsigned(
                "!=", emit_load(builder, args[0], kind), emit_load(builder, args[1], kind)
            )
            mask = builder.bitcast(unequal, ir.IntType(size))
            return builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0))

        return types.boolean(one, other), code

    return differ


differ_16, differ_64 = _differ(16), _differ(64)


def _fold_multiply(typing: object, one: Type, other: Type) -> Declared:
    """Return the XOR of the halves of a 128-bit product: it depends on all bits of both factors."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.xor(builder.trunc(product, _WORD), builder.trunc(high, _WORD))

    return types.uint64(types.uint64, types.uint64), code


def emit_prefetch(builder: Builder, address: Value) -> None:
    """Add the instructions that prefetch a cache line, inside an intrinsic."""
    pointer, flag = _BYTE.as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
    constants = [ir.Constant(flag, number) for number in (0, 3, 1)]
    builder.call(function, [builder.inttoptr(address, pointer), *constants])


def _prefetch(typing: object, address: Type) -> Declared:
    """Prefetch the cache line at ``address``. Any address is harmless."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        emit_prefetch(builder, args[0])
        return context.get_dummy_value()

    return types.none(address), code


def _pointer_to(typing: object, address: Type) -> Declared:
    """Return an address as a pointer, from which carray() makes an array."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(address), code


def _keep(typing: object, array: Type) -> Declared:
    """Do nothing, as the last use of an array that a kernel made and whose address it has taken.

    Numba frees an array after the last line that names it, for it does not know what an address is
    of. Another thread may then get the memory, and both write to it: nearly all packings of maps by
    four threads were wrong where these share an arena of malloc (test_kept_arrays.py).
    """

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        return context.get_dummy_value()

    return types.none(array), code


def _call_for_int(typing: object, address: Type) -> Declared:
    """Call a C function without arguments that returns an int."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        kind = ir.FunctionType(ir.IntType(32), [])
        result = builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
        return builder.sext(result, _WORD)

    return types.int64(address), code


def _add_at(typing: object, address: Type, number: Type) -> Declared:
    """Add a number to the one at an address, to which other threads may add at the same time."""

    def code(context: Context, builder: Builder, signature: Signature, args: Values) -> Value:
        pointer = builder.inttoptr(args[0], _WORD.as_pointer())
        builder.atomic_rmw("add", pointer, args[1], "seq_cst")
        return context.get_dummy_value()

    return types.none(address, types.int64), code


# The intrinsics, with their types inside kernels.
count_ones: Callable[[np.uint64], np.uint64] = intrinsic(_count_ones)
count_ones_64: Load = intrinsic(_count_ones_64)
count_ones_of_words: Callable[[Int, Int], None] = intrinsic(_count_ones_of_words)
fold_multiply: Callable[[np.uint64, np.uint64], np.uint64] = intrinsic(_fold_multiply)
prefetch: Callable[[Int], None] = intrinsic(_prefetch)
pointer_to: Callable[[Int], Any] = intrinsic(_pointer_to)
keep: Callable[[KernelArray[Any, Any]], None] = intrinsic(_keep)
call_for_int: Callable[[Int], np.int64] = intrinsic(_call_for_int)
add_at: Callable[[Int, Int], None] = intrinsic(_add_at)


@inlined
def address_of(array: KernelArray[Any, Any]) -> np.int64:
    """Return the address of the first element, signed: in Numba uint64 + int64 is a float."""
    return np.int64(array.ctypes.data)
