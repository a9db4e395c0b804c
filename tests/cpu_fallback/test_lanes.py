"""Vectors of lanes that ARM processors have a form of their own for, run on the processor here."""

import numba
import numpy as np
import pytest

from tensorstate_gpu.cpu_fallback import lanes

BITS = np.random.default_rng(1).integers(0, 1 << 64, 8, np.uint64)


@pytest.mark.parametrize("widens_bits", [True, False], ids=["x86", "ARM"])
def test_bits_are_stored_and_added_as_bytes(monkeypatch, widens_bits):
    monkeypatch.setattr(lanes, "widens_bits", widens_bits)
    by_8, by_16, by_32 = lanes.store_bools_8, lanes.store_bools_16, lanes.store_bools_32
    by_64, add = lanes.store_bools_64, lanes.add_bits_8

    @numba.njit
    def spread(words, stored, sums):
        by_8(words[0], stored[0].ctypes.data)
        by_16(words[0], stored[1].ctypes.data)
        by_32(words[0], stored[2].ctypes.data)
        by_64(words[0], stored[3].ctypes.data)
        add(words.ctypes.data, 8, sums.ctypes.data)

    stored, sums = np.full((4, 64), 7, np.uint8), np.full(64, 3, np.uint8)
    spread(BITS, stored, sums)
    bits = np.unpackbits(BITS.view(np.uint8), bitorder="little").reshape(8, 64)
    for row, lanes_stored in enumerate((8, 16, 32, 64)):
        np.testing.assert_array_equal(stored[row, :lanes_stored], bits[0, :lanes_stored])
        assert (stored[row, lanes_stored:] == 7).all()
    np.testing.assert_array_equal(sums, 3 + bits.sum(0))
