"""The coverage of an estimate, the least that its source may have, and what that means for it."""

import json
import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import (
    coverage,
    entropy,
    estimate,
    estimate_mutual_information,
)
from tests.support.samples import thinned


def test_the_coverage_is_that_of_other_groups():
    groups = np.zeros((10, 3), np.int64)
    groups[:, 0], groups[0, 1], groups[1, 2] = 3, 10, 1
    assert coverage(groups.sum(axis=0)) == 1 - 1 / 41
    assert estimate(groups).coverage == 1 - 11 / 41


@pytest.mark.parametrize(
    ("alone", "quality"),
    [(4, "good"), (5, "good"), (6, "bounds only"), (7, "bounds only")],
)
def test_qualities(alone, quality):
    """Of 100 rows. A coverage of 0.94 may be one below 0.9, by chance."""
    groups = np.zeros((20, 1 + alone), np.int64)
    groups[:, 0] = np.bincount(np.arange(100 - alone) % 20)
    groups[np.arange(alone), np.arange(1, 1 + alone)] = 1
    assert estimate(groups).quality == quality
    many = 10 * np.concatenate([groups[:, :1], np.zeros((20, 9 * alone), np.int64)], axis=1)
    many[np.arange(9 * alone) % 20, np.arange(1, 1 + 9 * alone)] = 1
    assert estimate(many).quality != "bounds only"  # the same coverage, of ten times as many


@pytest.mark.parametrize(("has_units", "quality"), [(False, "rough"), (True, "bounds only")])
def test_inputs_of_few_units_are_no_evidence_of_coverage(has_units, quality):
    """Of 20 units of 50 inputs, one has a state of its own: a share of 5 % plus or minus 5 %."""
    common, own = (np.array([[state]], np.uint8) for state in (0, 1))
    parts = [ts.StateCounts(common, [50], 8) for _ in range(19)] + [ts.StateCounts(own, [60], 8)]
    found = ts.GroupedCounts(parts, [50] * 19 + [60], has_units=has_units).estimate()
    assert found.coverage == 1 - 60 / 1010
    assert found.quality == quality
    assert (found.confidence_interval is None) == has_units
    error = math.sqrt(20 / 19) * 0.05 if has_units else math.sqrt(0.06 * 0.94 / 1010)
    assert found.least_coverage == pytest.approx(found.coverage - 1.645 * error, abs=0.015)


def test_the_coverage_of_units_is_that_of_a_ratio():
    """Groups of different sizes; by hand."""
    table = np.zeros((40, 3), np.int64)
    table[:, 0] = np.arange(10, 50)
    table[0, 1], table[1, 2] = 7, 90
    states = np.arange(3, dtype=np.uint8)[:, None]
    parts = [ts.StateCounts(states[row > 0], row[row > 0], 8) for row in table]
    found = ts.GroupedCounts(parts, [1] * 40, has_units=True).estimate()
    rows, alone = table.sum(axis=1), table[:, 1:].sum(axis=1)
    shares, seen = rows / rows.sum(), 1 - alone / rows
    groups = 1 / (shares**2).sum()
    by_groups = groups / (groups - 1) * (shares**2 * (seen - found.coverage) ** 2).sum()
    assert found.least_coverage == pytest.approx(found.coverage - 1.645 * math.sqrt(by_groups))


@pytest.mark.parametrize(("instances", "seldom"), [(40, 0.06), (200, 0.02), (1000, 0.002)])
def test_the_least_coverage_holds(instances, seldom):
    """Rare states of that share together, of which a sample may have none."""
    p = np.array([0.6, 0.4 - seldom, *[seldom / 100] * 100])
    rng, held = np.random.default_rng(1), 0
    for _ in range(300):
        states = rng.choice(len(p), instances, p=p)
        groups = np.zeros((32, len(p)), np.int64)
        np.add.at(groups, (np.arange(instances) % 32, states), 1)
        held += estimate(groups).least_coverage <= p[groups.any(axis=0)].sum()
    assert held >= 0.93 * 300


def test_samples_that_lack_rare_states_by_chance():
    """Of samples of 100 inputs with many rare states, few have an interval: those that lack most.

    All rows of an instance are alike.
    """
    p = 1 / np.arange(1, 5001) ** 1.8
    p /= p.sum()
    rng, held = np.random.default_rng(2), []
    while len(held) < 40:
        seen, states = np.unique(rng.choice(len(p), 100, p=p), return_inverse=True)
        if (np.bincount(states) == 1).sum() > 6:  # no interval, as of most
            continue
        groups = np.zeros((32, states.max() + 1), np.int64)
        np.add.at(groups, (np.arange(100) % 32, states), 1)
        packed = seen.astype("<u2")[:, None].view(np.uint8)
        parts = [ts.StateCounts(packed[row > 0], 3 * row[row > 0], 13) for row in groups]
        found = ts.GroupedCounts(parts, groups.sum(axis=1).tolist()).estimate()
        if found.confidence_interval is not None:
            held.append(found.lower <= entropy(p) <= found.upper)
    assert np.mean(held) >= 0.85


def test_states_that_become_rare_slowly():
    """Probabilities as rank**-1.5, and all rows of an instance alike: the bias falls slowly."""
    p = 1 / np.arange(1, 100_001) ** 1.5
    p /= p.sum()
    held = 0
    for seed in range(12):
        drawn_states = np.random.default_rng(seed).choice(len(p), (32, 50), p=p)
        _, states = np.unique(drawn_states, return_inverse=True)
        groups = np.array([np.bincount(row, minlength=states.max() + 1) for row in states])
        found = estimate(20 * groups)
        held += found.lower <= entropy(p) <= found.upper
        assert found.confidence_interval
    assert held >= 11


def test_units_of_one_group_say_nothing_of_coverage():
    parts = [ts.StateCounts(np.array([[1], [2]], np.uint8), [9, 1], 8), ts.StateCounts.empty(8)]
    found = ts.GroupedCounts(parts, [10, 0], has_units=True).estimate()
    assert found.least_coverage == 0
    json.dumps(found.as_dict(), allow_nan=False)


SAMPLES = [(60, 8), (300, 50), (100, 8), (150, 8), (100, 16)]


@pytest.mark.parametrize(("instances", "number"), thinned(SAMPLES, SAMPLES[:2]))
def test_samples_that_lack_rare_pairs_by_chance(instances, number):
    """A state tells its label of some, but for one in ten. All rows of an instance are alike.

    Of samples that lack most of the rare pairs of label and state, states seem to tell more.
    """
    shares = np.full((number, number), 0.1 / number**2) + np.eye(number) * 0.9 / number
    truth = 2 * math.log2(number) - entropy(shares.ravel())
    rng, held = np.random.default_rng(3), []
    while len(held) < 60:
        labels, states = np.divmod(rng.choice(number**2, instances, p=shares.ravel()), number)
        if (np.bincount(number * labels + states) == 1).sum() > 0.07 * instances:  # no interval
            continue
        groups = np.zeros((number, 32, number), np.int64)
        np.add.at(groups, (labels, np.arange(instances) % 32, states), 4)
        inputs = groups.sum(axis=2) // 4
        packed = np.arange(number, dtype=np.uint8)[:, None]
        found = estimate_mutual_information(
            {
                label: ts.GroupedCounts(
                    [ts.StateCounts(packed[row > 0], row[row > 0], 6) for row in own],
                    inputs[label].tolist(),
                )
                for label, own in enumerate(groups)
                if own.any()
            }
        )
        if found.confidence_interval is not None:
            held.append(found.lower <= truth <= found.upper)
    assert np.mean(held) >= 0.9
