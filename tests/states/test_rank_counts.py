"""Histograms of several ranks, here threads: the sum, and its measures, against one process."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu._states import rank_exchange, state_counts
from tensorstate_gpu._states.rank_exchange import owners
from tensorstate_gpu._states.state_counts import merge_all
from tests.support.thread_ranks import ThreadRanks, on_ranks, ranks_are_given  # noqa: F401


def counts_by_chance(seed, neurons, rows):
    """A histogram of rows, of which some states are frequent."""
    random = np.random.default_rng(seed)
    states = random.random((rows, neurons)) < random.choice([0.02, 0.3, 0.5])
    return ts.count_states(ts.compress_states(states.astype(np.float32)), neurons=neurons)


@given(
    neurons=st.sampled_from([1, 7, 8, 9, 63, 64, 65, 130]),
    rows=st.lists(st.sampled_from([0, 1, 5, 300]), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=15)
def test_ranks_have_the_histogram_of_one_process(neurons, rows, seed):
    parts = [counts_by_chance(seed + rank, neurons, each) for rank, each in enumerate(rows)]
    whole = merge_all(parts, parts[0].neurons)
    merged = on_ranks(len(parts), lambda ranks: parts[ranks.rank].merge_ranks(ranks))
    assert merge_all([each.own for each in merged], whole.neurons) == whole
    assert sum(len(each.own) for each in merged) == len(whole)  # no state has two owners
    for each in merged:
        assert (each.total, len(each), each.neurons) == (whole.total, len(whole), whole.neurons)
        for ours, exact in zip(each.counts_of_counts(), whole.counts_of_counts(), strict=True):
            assert ours.tolist() == exact.tolist()
        if len(whole):
            rates = ts.neurons.firing_rates(whole)
            assert np.allclose(each.firing_counts() / whole.total, rates, rtol=1e-15)


ORDERS = [0, 0.5, 0.9, 1, 1.1, 2, 7, math.inf]
ESTIMATORS = ["miller-madow", "grassberger", "jackknife", "chao-shen", "chao-wang-jost", "nsb"]


@pytest.mark.parametrize("neurons", [3, 12, 70])
def test_measures_are_those_of_one_process(neurons):
    parts = [counts_by_chance(rank, neurons, 400 * rank) for rank in range(4)]
    whole = merge_all(parts, neurons)
    for merged in on_ranks(4, lambda ranks: parts[ranks.rank].merge_ranks(ranks)):
        for order in ORDERS:
            assert merged.entropy(order) == pytest.approx(whole.entropy(order), rel=1e-14)
            effective = ts.information.effective_states(whole, order)
            assert ts.information.effective_states(merged, order) == pytest.approx(effective)
        for estimator in ESTIMATORS:
            exact = whole.entropy(estimator=estimator)
            assert merged.entropy(estimator=estimator) == pytest.approx(exact, rel=1e-12)
        assert merged.efficiency() == pytest.approx(whole.efficiency(), rel=1e-14)
        assert merged.max_entropy() == neurons
        assert ts.information.coverage(merged) == ts.information.coverage(whole)
        half = whole.total // 2
        rarefied = ts.information.rarefaction(whole, half)
        assert ts.information.rarefaction(merged, half) == pytest.approx(rarefied, rel=1e-14)
        assert repr(merged) == repr(whole).replace("StateCounts", "RankCounts")


def test_the_entropy_of_equally_likely_states_is_exact():
    packed = np.arange(64, dtype=np.uint8)[:, None]
    parts = [
        ts.StateCounts(packed[rank::3], np.full(len(packed[rank::3]), 5), 6) for rank in range(3)
    ]
    for merged in on_ranks(3, lambda ranks: parts[ranks.rank].merge_ranks(ranks)):
        assert [merged.entropy(order) for order in ORDERS] == [6.0] * len(ORDERS)
        assert ts.information.effective_states(merged, 0) == 64.0


def test_the_mean_of_ranks_is_not_the_measure():
    """Two ranks with one state each have no entropy; together they have a bit."""
    parts = [ts.StateCounts(np.array([[rank]], np.uint8), np.array([9]), 1) for rank in range(2)]
    assert [part.entropy() for part in parts] == [0.0, 0.0]
    merged = on_ranks(2, lambda ranks: parts[ranks.rank].merge_ranks(ranks))
    assert [each.entropy() for each in merged] == [1.0, 1.0]


def test_one_rank_gathers_all_states():
    parts = [counts_by_chance(rank, 20, 100) for rank in range(3)]

    def gather(ranks):
        return parts[ranks.rank].merge_ranks(ranks).gather(dst=1)

    assert on_ranks(3, gather) == [None, merge_all(parts, 20), None]


@pytest.mark.parametrize("dst", [-1, 2, 2.5, "0"])
def test_there_is_no_such_rank(dst):
    parts = [counts_by_chance(rank, 20, 10) for rank in range(2)]
    found = on_ranks(2, lambda ranks: parts[ranks.rank].merge_ranks(ranks).gather(dst=dst))
    kind = ValueError if isinstance(dst, int) else TypeError
    assert all(type(error) is kind and "dst must be" in str(error) for error in found)


def test_other_neurons_are_an_error_on_every_rank():
    parts = [counts_by_chance(0, neurons, 10) for neurons in (8, 8, 9)]
    found = on_ranks(3, lambda ranks: parts[ranks.rank].merge_ranks(ranks))
    assert {type(error) for error in found} == {ts.errors.RanksDisagree}
    assert {str(error) for error in found} == {"the number of neurons: some ranks have 8, others 9"}


def test_more_than_int64_is_an_error_on_every_rank():
    part = ts.StateCounts(np.array([[1]], np.uint8), np.array([2**62]), 3)
    found = on_ranks(2, lambda ranks: part.merge_ranks(ranks))
    assert {type(error) for error in found} == {OverflowError}


def test_no_rank_has_states():
    for merged in on_ranks(2, lambda ranks: ts.StateCounts.empty(5).merge_ranks(ranks)):
        assert (len(merged), merged.total) == (0, 0)
        assert repr(merged) == "RankCounts(empty, 5 neurons)"
        with pytest.raises(ValueError, match="counts is empty"):
            merged.entropy()
        with pytest.raises(ValueError, match="counts is empty"):
            ts.information.coverage(merged)


def test_a_copy_measures_and_cannot_gather():
    merged, _ = on_ranks(2, lambda ranks: counts_by_chance(7, 9, 50).merge_ranks(ranks))
    copied = pickle.loads(pickle.dumps(merged))
    assert copied.entropy() == merged.entropy()
    assert copied.own == merged.own
    with pytest.raises(RuntimeError, match="a copy cannot communicate"):
        copied.gather()


def test_many_histograms_are_sent_a_few_at_a_time(monkeypatch):
    """The copies under way are bounded by the largest block, not by all histograms."""
    block, sent = 12_000, []
    monkeypatch.setattr(rank_exchange, "_BLOCK", block)
    rows = np.random.default_rng(5).choice([0, 10, 150, 600], (3, 40))  # uneven ranks
    parts = [[counts_by_chance(n, 30, rows[rank, n]) for n in range(40)] for rank in range(3)]

    class Measured(ThreadRanks):
        def exchanged(self, array, sizes):
            sent.append(array.nbytes)
            return super().exchanged(array, sizes)

    found = on_ranks(3, lambda ranks: state_counts.owned(ranks, parts[ranks.rank]), Measured)
    assert max(sent) <= block < 4 * sum(len(part) for part in parts[0])
    for of_ranks, owned in zip(zip(*parts, strict=True), zip(*found, strict=True), strict=True):
        assert merge_all(list(owned), 30) == merge_all(list(of_ranks), 30)


def test_owners_are_spread_evenly_and_always_the_same():
    packed = np.arange(40000, dtype="<u4").view(np.uint8).reshape(-1, 4)
    shares = np.bincount(owners(packed, 5), minlength=5)
    assert abs(shares - 8000).max() < 400
    # On ranks of other machines, too.
    assert owners(packed[:12], 5).tolist() == [0, 3, 2, 4, 2, 4, 2, 1, 4, 1, 3, 4]


def test_without_ranks_there_is_nothing_to_merge(monkeypatch):
    from tensorstate_gpu._arrays import frameworks

    monkeypatch.setattr(frameworks, "loaded_module", lambda name: None)
    with pytest.raises(RuntimeError, match="init_process_group"):
        frameworks.ranks_of(None)
