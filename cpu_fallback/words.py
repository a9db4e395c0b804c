"""Packed rows as 64-bit words, inside kernels: reading, comparing, hashing and copying them.

A row is passed as its address. ``end`` is the end of the array that contains it; nothing is read at
or past it. Words are little-endian; bytes beyond the row are 0.
"""

import secrets

import numpy as np

from .compiling import inlined, kernel
from .intrinsics import (
    differ_16,
    differ_64,
    fold_multiply,
    load_byte,
    load_word,
    store_byte,
    store_word,
)
from .kernel_types import Bool, Int

# Of this process, for all hashes: who makes rows cannot know which of them would share a slot.
# Kernels get it as an argument, for a constant would stay in their compiled code.
SEED = np.uint64(secrets.randbits(64))


@inlined
def row_word(row: Int, word: Int, width: Int, end: Int) -> np.uint64:
    """Return eight bytes of a row as a number."""
    address, count = row + 8 * word, width - 8 * word
    if count >= 8:
        return load_word(address)
    if address + 8 <= end:
        return load_word(address) & ((np.uint64(1) << np.uint64(8 * count)) - np.uint64(1))
    value = np.uint64(0)
    for byte in range(count):
        value |= load_byte(address + byte) << np.uint64(8 * byte)
    return value


@inlined
def store_bytes(value: np.uint64, target: Int, width: Int, stop: Int) -> None:
    """Store the low ``width`` bytes; as a full word if the bytes behind them are written later."""
    if target + 8 <= stop:
        store_word(value, target)
    else:
        for byte in range(width):
            store_byte(value >> np.uint64(8 * byte), target + byte)


@inlined
def rows_equal(one: Int, other: Int, width: Int) -> Bool:
    """Compare rows of more than 8 bytes. The last block overlaps the previous one."""
    if width < 16:
        last = width - 8
        equal: Bool = load_word(one) == load_word(other) and (
            load_word(one + last) == load_word(other + last)
        )
        return equal
    at = 0
    while at + 64 <= width:
        if differ_64(one + at, other + at):
            return False
        at += 64
    while at + 16 < width:
        if differ_16(one + at, other + at):
            return False
        at += 16
    return not differ_16(one + width - 16, other + width - 16)


@kernel
def compare_rows(one: Int, other: Int, width: Int, end: Int, other_end: Int) -> int:
    """Compare two rows as little-endian integers: return -1, 0 or 1."""
    for word in range((width + 7) // 8 - 1, -1, -1):
        a, b = row_word(one, word, width, end), row_word(other, word, width, other_end)
        if a != b:
            return -1 if a < b else 1
    return 0


@inlined
def hash_row(row: Int, width: Int, seed: np.uint64) -> np.uint64:
    """Hash more than 8 bytes with folded 128-bit products. The high bits are the best ones."""
    one, other = np.uint64(0x9E3779B97F4A7C15) ^ seed, np.uint64(0xC2B2AE3D27D4EB4F) + seed
    secret = np.uint64(0xA0761D6478BD642F) ^ seed
    at = 0
    while at + 32 <= width:  # two independent chains: their multiplications overlap
        a, b = load_word(row + at), load_word(row + at + 8)
        c, d = load_word(row + at + 16), load_word(row + at + 24)
        # A product with 0 would lose the other factor, so the words themselves are mixed in too.
        one = fold_multiply(a ^ secret, b ^ one) ^ a ^ b
        other = fold_multiply(c ^ secret, d ^ other) ^ c ^ d
        at += 32
    while at + 8 < width:
        a = load_word(row + at)
        one = fold_multiply(a ^ secret, one) ^ a ^ one
        at += 8
    a = load_word(row + width - 8)
    return fold_multiply(one ^ a, other) ^ one ^ a


@inlined
def copy_row(source: Int, target: Int, width: Int) -> None:
    """Copy a row, a word at a time and then the last bytes."""
    whole = width // 8
    for word in range(whole):
        store_word(load_word(source + 8 * word), target + 8 * word)
    for byte in range(8 * whole, width):
        store_byte(load_byte(source + byte), target + byte)
