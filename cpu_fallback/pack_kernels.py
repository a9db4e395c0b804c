"""Kernels of packing, for rows and planes; see lanes.py for ``test``, and Plan for ``numbers``."""

import numpy as np

from .compiling import inlined, kernel
from .intrinsics import address_of, keep, load_byte, load_word, prefetch, store_byte, store_word
from .kernel_types import Bytes, Int, Ints, Test
from .lanes import (
    add_plane_1,
    add_plane_16,
    add_plane_64,
    fetch_64,
    firing_mask_1,
    firing_mask_8,
    firing_mask_16,
    firing_mask_32,
    firing_mask_64,
    store_transposed,
)
from .words import store_bytes

# Positions packed at a time if the neurons of a state are apart in memory: complete maps up to
# 128 x 128, because memory is fastest when it is read sequentially. Eight bytes for each position
# still fit into the second-level cache.
_BLOCK = 1 << 14

# How far ahead numbers are fetched, in bytes. Hardware prefetchers stop at pages, and do little
# while rows are stored: on two threads of a Zen 5, 5.76 million rows of 20 float16 were packed at
# 21 GB/s without, and at 47 with this (`make bench ARGS="-k test_pack"`).
_AHEAD = 10 << 10


@kernel
def _outer_offset(numbers: Ints, index: Int) -> Int:
    axes = (len(numbers) - 6) // 2
    offset: Int = 0
    for axis in range(axes - 1, -1, -1):
        rest = index // numbers[6 + axis]
        offset += (index - rest * numbers[6 + axis]) * numbers[6 + axes + axis]
        index = rest
    return offset


# Numba inlines the helpers of the inner loops. If that were left to LLVM, they would remain calls
# that pass the test through memory, once for every few bits.
@inlined
def _tail_mask(address: Int, end: Int, size: Int, test: Test, neuron: Int, count: Int) -> np.uint64:
    """Return the bits of the last ``count`` < 64 neurons of a row; read nothing past ``end``."""
    mask = np.uint64(0)
    if count <= 8 and address + 8 * size <= end:
        mask = firing_mask_8(address, test, neuron)
    elif count <= 16 and address + 16 * size <= end:
        mask = firing_mask_16(address, test, neuron)
    elif count <= 32 and address + 32 * size <= end:
        mask = firing_mask_32(address, test, neuron)
    elif address + 64 * size <= end:
        mask = firing_mask_64(address, test, neuron)
    else:
        for k in range(count):
            mask |= firing_mask_1(address + k * size, test, neuron + k) << np.uint64(k)
    return mask & ((np.uint64(1) << np.uint64(count)) - np.uint64(1))


@kernel
def pack_flat(
    address: Int, numbers: Ints, test: Test, packed: Bytes, start: Int, stop: Int
) -> None:
    """Pack contiguous rows without gaps: 64 rows of n neurons are n words of bits.

    Words of rows of whole bytes are stored as they are. Of other rows, which must be few enough
    for a word, each gets its bits from one or two words.
    """
    size, row_bytes, neurons = numbers[1], numbers[3], numbers[4]
    width = packed.shape[1]
    target, last = address_of(packed) + start * width, address_of(packed) + stop * width
    whole = neurons % 8 == 0
    words = np.zeros(1 if whole else neurons + 1, np.uint64)
    bits = address_of(words)
    state = start
    while state + 64 <= stop:
        first = address + state * row_bytes
        if whole:
            for word in range(neurons):
                fetch_64(first + 64 * word * size + _AHEAD, test)
                store_word(firing_mask_64(first + 64 * word * size, test, 0), target + 8 * word)
        else:
            for word in range(neurons):
                store_word(firing_mask_64(first + 64 * word * size, test, 0), bits + 8 * word)
            _store_flat(bits, neurons, first + max(_AHEAD, 64 * row_bytes), row_bytes, target, last)
        target += 64 * width
        state += 64
    keep(words)
    pack_rows(address, numbers, test, packed, state, stop)


@inlined
def _store_flat(
    bits: Int, neurons: Int, ahead: Int, row_bytes: Int, target: Int, last: Int
) -> None:
    """Store 64 rows of bits that follow each other; fetch what is ``ahead``, row by row."""
    mask = (np.uint64(1) << np.uint64(neurons)) - np.uint64(1)
    width = (neurons + 7) // 8
    for place in range(0, 64 * neurons, neurons):
        prefetch(ahead)
        if row_bytes > 96:  # of shorter rows, few lines are left out
            for line in range(64, row_bytes, 64):
                prefetch(ahead + line)
        ahead += row_bytes
        row = load_word(bits + place // 8) >> np.uint64(place % 8)
        store_bytes(row & mask, target, width, last)
        target += width


@kernel
def pack_rows(
    address: Int, numbers: Ints, test: Test, packed: Bytes, start: Int, stop: Int
) -> None:
    """Pack rows whose neurons are contiguous in memory: lanes run along the neurons."""
    end, size = address + numbers[0], numbers[1]
    run, run_stride, neurons = numbers[2], numbers[3], numbers[4]
    width = packed.shape[1]
    target = address_of(packed) + start * width
    last = address_of(packed) + stop * width
    words, tail = neurons // 64, neurons % 64
    state = start
    while state < stop:
        outer = state // run
        position = state - outer * run
        count = min(run - position, stop - state)
        row = address + _outer_offset(numbers, outer) + position * run_stride
        for _ in range(count):
            for word in range(words):
                fetch_64(row + 64 * word * size + _AHEAD, test)
                mask = firing_mask_64(row + 64 * word * size, test, 64 * word)
                store_word(mask, target + 8 * word)
            if tail:
                mask = _tail_mask(row + 64 * words * size, end, size, test, 64 * words, tail)
                store_bytes(mask, target + 8 * words, (tail + 7) // 8, last)
            target += width
            row += run_stride
        state += count


@inlined
def _add_plane(
    address: Int, end: Int, size: Int, stride: Int, count: Int, test: Test, neuron: Int, target: Int
) -> None:
    """Set one neuron's bit in the bytes of ``count`` positions, ``stride`` bytes apart."""
    done, bit = 0, neuron % 8
    if stride == size:
        # `target` has 64 spare bytes: what a vector writes past `count` is never read.
        while count - done > 16 and address + (done + 64) * size <= end:
            fetch_64(address + done * size + _AHEAD, test)
            add_plane_64(address + done * size, test, neuron, bit, target + done)
            done += 64
        while done < count and address + (done + 16) * size <= end:
            add_plane_16(address + done * size, test, neuron, bit, target + done)
            done += 16
    for position in range(done, count):
        add_plane_1(address + position * stride, test, neuron, bit, target + position)


@kernel
def pack_planes(
    address: Int, numbers: Ints, test: Test, packed: Bytes, start: Int, stop: Int
) -> None:
    """Pack neurons that are apart in memory: lanes run along the positions, plane after plane.

    The bits are collected in a block that has a row for each byte of a word of 64 neurons. Its
    columns are then stored as words.
    """
    end, size = address + numbers[0], numbers[1]
    run, run_stride, neurons, plane = numbers[2], numbers[3], numbers[4], numbers[5]
    width = packed.shape[1]
    last = address_of(packed) + stop * width
    block = np.empty((8, min(run, _BLOCK) + 64), np.uint8)
    rows, row = address_of(block), block.shape[1]
    state = start
    while state < stop:
        outer = state // run
        position = state - outer * run
        count = min(run - position, stop - state, _BLOCK)
        first = address + _outer_offset(numbers, outer) + position * run_stride
        target = address_of(packed) + state * width
        for word in range((neurons + 63) // 64):
            for neuron in range(64 * word, min(64 * word + 64, neurons)):
                _add_plane(
                    first + neuron * plane,
                    end,
                    size,
                    run_stride,
                    count,
                    test,
                    neuron,
                    rows + neuron % 64 // 8 * row,
                )
            used = min(width - 8 * word, 8)
            _store_columns(rows, row, used, target + 8 * word, width, count, last)
        state += count
    keep(block)


@kernel
def _store_columns(
    rows: Int, row: Int, used: Int, target: Int, width: Int, count: Int, last: Int
) -> None:
    """Store ``used`` bytes of each of ``count`` columns, ``width`` apart, all before ``last``."""
    done = 0
    # A full word overwrites bytes of the next state, which must be written later.
    if used == 8 or width < 8:
        while done + 8 <= count and target + (done + 7) * width + 8 <= last:
            store_transposed(rows + done, row, target + done * width, width)
            done += 8
    for position in range(done, count):
        for byte in range(used):
            store_byte(load_byte(rows + byte * row + position), target + position * width + byte)
