"""Lower bounds where no state occurs in two inputs, of which some have most of the rows."""

import math

import numpy as np
import pytest

import tensorstate_gpu as ts

LONG, CHANCE, OWN = 100, 0.1, 512  # rows of a long input, its chance, and the states of all of them


def sample(rng, inputs, has_units):
    """Inputs of one row, all of whose states differ; and of many rows with one of few states."""
    is_long, at = rng.random(inputs) < CHANCE, rng.integers(0, 32, inputs)
    numbers = np.where(is_long, rng.integers(0, OWN, inputs), OWN + rng.permutation(inputs))
    rows = np.where(is_long, LONG, 1)
    parts = []
    for group in range(32):
        states, places = np.unique(numbers[at == group], return_inverse=True)
        packed = states.astype("<u4").view(np.uint8).reshape(-1, 4)
        counts = np.bincount(places, rows[at == group], minlength=len(states)).astype(np.int64)
        order = np.lexsort(packed.T)
        parts.append(ts.StateCounts(packed[order], counts[order], 32))
    by_group = np.bincount(at, minlength=32).tolist()
    return ts.GroupedCounts(parts, by_group, has_units=has_units)


@pytest.mark.parametrize("has_units", [False, True])
def test_inputs_with_few_rows_are_little_evidence(has_units):
    """The short ones have states of 20 bits, but 8 % of the rows. It held in 1 of 3 samples."""
    share = CHANCE * LONG / (CHANCE * LONG + 1 - CHANCE)
    rest = 1 - share
    truth = share * math.log2(OWN / share) + rest * (20 - math.log2(rest))
    rng = np.random.default_rng(0)
    found = [sample(rng, 200, has_units).estimate() for _ in range(100)]
    assert sum(each.how[0] == "no coincidences" for each in found) > 20
    assert sum(each.lower <= truth for each in found) >= 95


def test_equal_inputs_count_in_full():
    states = np.random.default_rng(0).integers(0, 256, (64, 4)).astype(np.uint8)
    pairs = [states[2 * group : 2 * group + 2] for group in range(32)]
    parts = [ts.StateCounts(two[np.lexsort(two.T)], [3, 3], 32) for two in pairs]
    found = ts.GroupedCounts(parts, [2] * 32).estimate()
    assert found.how[0] == "no coincidences"
    assert found.lower == pytest.approx(2 * math.log2(64 / 4.7439) + math.log2(31 / 32))
