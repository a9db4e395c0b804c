"""Unpacking bits into bools, and counting set bits."""

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .intrinsics import (
    address_of,
    count_ones,
    count_ones_64,
    count_ones_of_words,
    load_byte,
    load_word,
    store_byte,
)
from .kernel_types import Bools, Bytes, Int, Ints32
from .lanes import store_bools_8, store_bools_16, store_bools_32, store_bools_64
from .threads import in_parallel
from .words import row_word


def decompress(packed: NDArray[np.uint8], neurons: int) -> NDArray[np.bool_]:
    """Unpack into bool of shape (states, neurons); see the Backend protocol."""
    rows = np.ascontiguousarray(packed)
    states = np.empty((len(rows), neurons), np.bool_)

    if neurons % 8 == 0:
        kernel = _unpack_whole
    elif neurons < 64:
        kernel = _unpack_flat
    else:
        kernel = _unpack_rows

    def task(start: int, stop: int) -> None:
        kernel(rows, states, start, stop)

    if states.size:
        in_parallel(task, len(rows), states.size)
    return states


def popcount(packed: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Count the set bits of each row: int32 of shape (states,)."""
    rows = np.ascontiguousarray(packed)
    ones = np.empty(len(rows), np.int32)
    kernel = _count_narrow if rows.shape[1] <= 8 else _count_wide

    def task(start: int, stop: int) -> None:
        kernel(rows, ones, start, stop)

    if len(rows):
        in_parallel(task, len(rows), rows.size)
    return ones


@inlined
def _store_last_bools(word: np.uint64, target: Int, count: Int, stop: Int) -> None:
    """Store ``count`` < 64 bools; as a full vector if the bytes behind them are written later."""
    if count <= 8 and target + 8 <= stop:
        store_bools_8(word, target)
    elif count <= 16 and target + 16 <= stop:
        store_bools_16(word, target)
    elif count <= 32 and target + 32 <= stop:
        store_bools_32(word, target)
    elif target + 64 <= stop:
        store_bools_64(word, target)
    else:
        for k in range(count):
            store_byte((word >> np.uint64(k)) & np.uint64(1), target + k)


@kernel
def _unpack_whole(rows: Bytes, states: Bools, start: Int, stop: Int) -> None:
    """Unpack rows of whole bytes, which are one row of bits."""
    width = rows.shape[1]
    row, end = address_of(rows) + start * width, address_of(rows) + stop * width
    target = address_of(states) + 8 * width * start
    while row + 8 <= end:
        store_bools_64(load_word(row), target)
        row += 8
        target += 64
    while row < end:
        store_bools_8(load_byte(row), target)
        row += 1
        target += 8


@kernel
def _unpack_flat(rows: Bytes, states: Bools, start: Int, stop: Int) -> None:
    """Unpack rows of few neurons: the bits of 64 rows of n neurons are n words."""
    width, neurons = rows.shape[1], states.shape[1]
    end = address_of(rows) + rows.size
    mask = (np.uint64(1) << np.uint64(neurons)) - np.uint64(1)
    row = address_of(rows) + start * width
    target = address_of(states) + start * neurons
    whole = start + (stop - start) // 64 * 64
    word, filled = np.uint64(0), 0
    for _ in range(start, whole):
        bits = row_word(row, 0, width, end) & mask
        word |= bits << np.uint64(filled)
        filled += neurons
        if filled >= 64:
            store_bools_64(word, target)
            target += 64
            filled -= 64
            word = bits >> np.uint64(neurons - filled)
        row += width
    _unpack_rows(rows, states, whole, stop)


@kernel
def _unpack_rows(rows: Bytes, states: Bools, start: Int, stop: Int) -> None:
    """Unpack rows of any number of neurons, a word of 64 at a time."""
    width, neurons = rows.shape[1], states.shape[1]
    end = address_of(rows) + rows.size
    last = address_of(states) + stop * neurons
    words, tail = neurons // 64, neurons % 64
    for state in range(start, stop):
        row = address_of(rows) + state * width
        target = address_of(states) + state * neurons
        for word in range(words):
            store_bools_64(load_word(row + 8 * word), target + 64 * word)
        if tail:
            bits = row_word(row, words, width, end)
            _store_last_bools(bits, target + 64 * words, tail, last)


@kernel
def _count_narrow(rows: Bytes, ones: Ints32, start: Int, stop: Int) -> None:
    """Count the set bits of rows of at most 8 bytes."""
    width, end = rows.shape[1], address_of(rows) + rows.size
    row = address_of(rows) + start * width
    if width == 8:
        while start + 8 <= stop:
            count_ones_of_words(row, address_of(ones) + 4 * start)
            row += 64
            start += 8
    mask = (np.uint64(1) << np.uint64(8 * width)) - np.uint64(1)
    # Rows behind which the array has the rest of a word: two instructions each less.
    whole = min(stop, (rows.size - 8) // width + 1) if width < 8 else start
    for state in range(start, whole):
        ones[state] = count_ones(load_word(row) & mask)
        row += width
    for state in range(max(start, whole), stop):
        ones[state] = count_ones(row_word(row, 0, width, end))
        row += width


@kernel
def _count_wide(rows: Bytes, ones: Ints32, start: Int, stop: Int) -> None:
    """Count the set bits of rows of more than 8 bytes."""
    width, end = rows.shape[1], address_of(rows) + rows.size
    words = (width + 7) // 8
    row = address_of(rows) + start * width
    for state in range(start, stop):
        total = np.uint64(0)
        for block in range(width // 64):
            total += count_ones_64(row + 64 * block)
        for word in range(width // 64 * 8, words):
            total += count_ones(row_word(row, word, width, end))
        ones[state] = total
        row += width
