"""What holds for the measures of any states, whatever they are."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu import bits, information, neurons
from tensorstate_gpu.testing import packed_states

ESTIMATORS = ["plugin", "miller-madow", "jackknife", "grassberger", "chao-shen", "chao-wang-jost"]
ORDERS = [0, 0.3, 0.99, 1, 1.01, 2, 5, float("inf")]


def states(drawn):
    packed, count = drawn
    assume(len(packed))
    return packed, count


def measures(packed, count):
    counts = ts.count_states(packed, count)
    found = [counts.entropy(estimator=estimator) for estimator in ESTIMATORS]
    return [*found, *(counts.entropy(order) for order in ORDERS), information.coverage(counts)]


@given(packed_states(), st.integers(0, 2**32))
@settings(max_examples=30)
def test_the_order_of_rows_tells_nothing(drawn, seed):
    packed, count = states(drawn)
    mixed = np.random.default_rng(seed).permutation(packed)
    assert measures(mixed, count) == pytest.approx(measures(packed, count), abs=1e-12)
    for function in (neurons.firing_rates, neurons.cofiring, neurons.active_neurons):
        assert np.array_equal(function(mixed, count), function(packed, count))


@given(packed_states(), st.integers(0, 2**32))
@settings(max_examples=30)
def test_the_order_of_neurons_tells_nothing(drawn, seed):
    packed, count = states(drawn)
    order = np.random.default_rng(seed).permutation(count)
    mixed = ts.compress_states(ts.decompress_states(packed, count)[:, order])
    assert measures(mixed, count) == pytest.approx(measures(packed, count), abs=1e-9)
    together = neurons.cofiring(packed, count)
    assert np.array_equal(neurons.cofiring(mixed, count), together[np.ix_(order, order)])


@given(packed_states(), st.data())
@settings(max_examples=30)
def test_parts_counted_and_merged_are_the_whole(drawn, data):
    packed, count = states(drawn)
    cut = data.draw(st.integers(0, len(packed)))
    parts = [ts.count_states(part, count) for part in (packed[:cut], packed[cut:])]
    whole = ts.count_states(packed, count)
    assert parts[0] + parts[1] == parts[1] + parts[0] == whole
    known = [neurons.cofiring(part) for part in parts if len(part)]
    assert np.array_equal(sum(known), neurons.cofiring(whole))


@given(packed_states())
@settings(max_examples=50)
def test_entropy_falls_with_its_order(drawn):
    packed, count = states(drawn)
    counts = ts.count_states(packed, count)
    for low, high in itertools.pairwise(ORDERS):
        assert counts.entropy(low) >= counts.entropy(high) - 1e-9


@given(packed_states(), st.data())
@settings(max_examples=50)
def test_fewer_neurons_have_no_more_entropy(drawn, data):
    packed, count = states(drawn)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = ts.count_states(bits.slice_neurons(packed, start, stop), stop - start)
    whole = ts.count_states(packed, count)
    for order in ORDERS:
        assert part.entropy(order) <= whole.entropy(order) + 1e-9
    assert len(part) <= len(whole)
    assert information.coverage(part) >= information.coverage(whole)


@given(packed_states(), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=50)
def test_states_tell_no_more_of_labels_than_there_is(drawn, labels, seed):
    packed, count = states(drawn)
    of_rows = np.random.default_rng(seed).integers(0, labels, len(packed))
    by_label = {
        label: ts.count_states(packed[of_rows == label], count) for label in np.unique(of_rows)
    }
    rows = [counts.total for counts in by_label.values()]
    for estimator in ESTIMATORS:
        told = information.mutual_information(by_label, estimator)
        assert 0 <= told <= information.entropy(rows, estimator=estimator) + 1e-9


@given(packed_states())
@settings(max_examples=50)
def test_a_neuron_that_repeats_another_adds_nothing(drawn):
    packed, count = states(drawn)
    twice = bits.concatenate_neurons([packed, bits.slice_neurons(packed, 0, 1)], [count, 1])
    for order in ORDERS:
        assert ts.count_states(twice, count + 1).entropy(order) == pytest.approx(
            ts.count_states(packed, count).entropy(order), abs=1e-12
        )
    (group,) = (
        group
        for group in neurons.equivalent_neurons(twice, count + 1, constant=True)
        if count in group.equal + group.opposite
    )
    assert 0 in group.equal
    assert count in group.equal
