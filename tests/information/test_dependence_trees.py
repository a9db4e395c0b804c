"""Dependence trees, and the upper bound of an entropy by their codes."""

import itertools

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import bounds, mutual_information
from tensorstate_gpu.information.dependence_trees import (
    code_lengths,
    code_lengths_together,
    tree_of,
    with_constant,
)
from tests.support.points import point_of_bits

FLIPS = 0.05


def chain(rows, neurons, seed):
    """Bits of which each is the one before it, but for flips: a tree has all their dependences."""
    rng = np.random.default_rng(seed)
    bits = np.empty((rows, neurons), np.int64)
    bits[:, 0] = rng.random(rows) < 0.5
    for i in range(1, neurons):
        bits[:, i] = bits[:, i - 1] ^ (rng.random(rows) < FLIPS)
    return bits


def pairs(bits):
    return with_constant(bits.T @ bits, len(bits))


def test_the_tree_of_a_chain_is_the_chain():
    order = np.random.default_rng(0).permutation(12)
    parents = tree_of(pairs(chain(2000, 12, 1)[:, np.argsort(order)]))
    edges = {frozenset((i, int(parent) - 1)) for i, parent in enumerate(parents) if parent}
    assert edges == {frozenset(edge) for edge in itertools.pairwise(order.tolist())}


@pytest.mark.parametrize("seed", range(5))
def test_no_tree_tells_more(seed):
    """Of all trees of five neurons, by brute force."""
    rng = np.random.default_rng(seed)
    bits = (rng.random((60, 5)) @ rng.random((5, 5)) > 1.2).astype(np.int64)
    told = {
        (i, j): mutual_information(
            [np.bincount(bits[bits[:, i] == a, j], minlength=2) for a in (0, 1)]
        )
        for i, j in itertools.combinations(range(5), 2)
    }

    def connected(edges):
        reached = {0}
        for _ in edges:
            reached |= {node for edge in edges if reached & set(edge) for node in edge}
        return len(reached) == 5

    trees = filter(connected, itertools.combinations(told, 4))
    most = max(sum(told[edge] for edge in tree) for tree in trees)
    parents = tree_of(pairs(bits))
    edges = [tuple(sorted((i, int(p) - 1))) for i, p in enumerate(parents) if p]
    assert sum(told[edge] for edge in edges) == pytest.approx(most)


def test_code_lengths_by_hand():
    """Eight groups of rows with two neurons; the code of a fold is that of the other three."""
    groups = [chain(20 + g, 2, g) for g in range(8)]
    lengths = code_lengths(8, lambda g: pairs(groups[g]))
    for g, bits in enumerate(groups):
        others = np.concatenate([each for i, each in enumerate(groups) if i % 4 != g % 4])
        expected = 0.0
        for first, second in bits:
            n, fires = len(others), (others[:, 0] == first).sum()
            both = (others == (first, second)).all(axis=1).sum()
            expected -= np.log2((fires + 0.5) / (n + 1)) + np.log2((both + 0.5) / (fires + 1))
        other_way = 0.0
        for first, second in bits:
            n, fires = len(others), (others[:, 1] == second).sum()
            both = (others == (first, second)).all(axis=1).sum()
            other_way -= np.log2((fires + 0.5) / (n + 1)) + np.log2((both + 0.5) / (fires + 1))
        assert any(lengths[g] == pytest.approx(bits) for bits in (expected, other_way))


def test_a_fold_that_has_all_rows():
    """Nothing is left to make its tree of: each neuron takes one bit."""
    empty = pairs(np.zeros((0, 3), np.int64))
    lengths = code_lengths(8, lambda g: empty if g else pairs(chain(20, 3, 0)))
    assert lengths.tolist() == [60] + [0] * 7


def test_the_bound_of_a_chain():
    """The neurons' own entropies say 100 bits; the code of the tree almost the truth, 29.4."""
    truth = 1 + 99 * ts.entropy([FLIPS, 1 - FLIPS])
    found = point_of_bits("layer", chain(2000, 100, 3)).estimate()
    assert found.how[1] == "dependence tree"
    assert truth < found.upper < 1.06 * truth


def test_the_bound_holds():
    """A code that is made of the same rows is shorter than the entropy in most of the samples."""
    truth = 1 + 39 * ts.entropy([FLIPS, 1 - FLIPS])
    held = 0
    for seed in range(40):
        found = point_of_bits("layer", chain(320, 40, seed)).estimate()
        held += found.upper >= truth
        assert found.upper < 1.5 * truth
    assert held >= 38


def test_a_tree_takes_no_long_time(monkeypatch):
    bits = chain(640, 20, 0)
    assert point_of_bits("layer", bits).estimate().how[1] == "dependence tree"
    words = sum(16 + -(-len(part) // 64) for part in point_of_bits("layer", bits).grouped().parts)
    monkeypatch.setattr(bounds, "MOST_PAIRS_OF_WORDS", 2 * words * 20**2)
    assert point_of_bits("layer", bits).estimate().how[1] == "neurons"


def test_the_constant_neuron_always_fires():
    both = pairs(np.array([[1, 0], [1, 1], [0, 0]]))
    np.testing.assert_array_equal(both, [[3, 2, 1], [2, 2, 1], [1, 1, 1]])


def test_trees_of_samples_together_are_those_of_each():
    samples = [[chain(8 * (g % 5), 6, 100 * one + g) for g in range(9)] for one in range(7)]
    both = np.array([[pairs(bits) for bits in groups] for groups in samples])
    together = code_lengths_together(both)
    for lengths, groups in zip(together, samples, strict=True):
        alone = code_lengths(9, lambda g, groups=groups: pairs(groups[g]))
        np.testing.assert_allclose(lengths, alone, rtol=1e-13)


@pytest.mark.parametrize("neurons", [1, 9, 30])
def test_trees_of_few_states_are_those_of_many(neurons, monkeypatch):
    """Repeated states, and groups without any: in one array of all pairs, or group by group."""
    bits = np.minimum(chain(200, neurons, 1), 1 - chain(200, neurons, 2))
    grouped = point_of_bits("layer", bits[np.arange(100) % 60]).grouped(90)
    few = grouped.code_lengths()
    assert (few == 0).any()
    monkeypatch.setattr("tensorstate_gpu._states.histogram_pairs.MOST_CELLS", 0)
    np.testing.assert_allclose(grouped.code_lengths(), few, rtol=1e-12)
