"""Estimators of entropy: reference values, edges, laws, and invalid arguments."""

import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate_gpu import StateCounts, count_states
from tensorstate_gpu.information import effective_states, efficiency, entropy
from tests.information.reference_values import SAMPLES, counts_of
from tests.support.points import new_point

CORRECTIONS = ["miller-madow", "grassberger", "jackknife", "chao-shen", "chao-wang-jost"]
ESTIMATORS = [("plugin", 1), *((name, 1) for name in [*CORRECTIONS, "nsb"])]
ESTIMATORS += [("unbiased", order) for order in (2, 3, 4, 5)]
MOST = 2**63 - 1
any_counts = st.lists(st.integers(0, 5) | st.integers(0, MOST), min_size=1, max_size=20).filter(any)


def close(value):
    """Equal up to 1e-10, relative to numbers above 1."""
    return pytest.approx(value, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", SAMPLES)
def test_reference_values(name):
    sample = SAMPLES[name]
    counts = counts_of(sample)
    for estimator, value in sample["entropy"].items():
        expected = 0 if len(counts) == 1 else value
        assert entropy(counts, estimator=estimator) == close(expected), estimator
    for neurons, value in sample["nsb"].items():
        assert entropy(counts, estimator="nsb", neurons=int(neurons)) == close(value), neurons
    for order, value in sample["unbiased"].items():
        expected = math.inf if value in (None, "inf") else value
        assert entropy(counts, int(order), "unbiased") == close(expected), order


def test_a_single_state_has_no_entropy():
    for estimator in ["plugin", *CORRECTIONS]:
        for times in (1, 2, 7, MOST):
            assert entropy([0, times], estimator=estimator) == 0
            assert math.copysign(1, entropy([times], estimator=estimator)) == 1


def test_more_doubletons_than_singletons_do_not_overflow():
    assert entropy([2] * 400 + [1], estimator="chao-wang-jost") == pytest.approx(9.0366, abs=5e-5)


@pytest.mark.serial
def test_ten_million_states_take_under_a_second():
    # For N singletons, 1 - A is 1 in float64, and yet the estimate is finite.
    many = np.broadcast_to(np.int64(1), 10**7)
    for estimator in CORRECTIONS:
        start = time.process_time()
        value = entropy(many, estimator=estimator)
        assert time.process_time() - start < 1
    assert value == pytest.approx(2 * math.log2(10**7) - 1, abs=1e-5)


def test_great_counts_are_counted_one_by_one_and_small_ones_together():
    counts = np.repeat([3, 2**20 - 1, 2**20, 2**40], [5, 3, 2, 2])
    for estimator in CORRECTIONS:
        assert 0 < entropy(counts, estimator=estimator) - entropy(counts) < 1e-5
    assert entropy(counts, 2, "unbiased") == pytest.approx(entropy(counts, 2), rel=1e-9)


@pytest.mark.parametrize("counts", [[MOST, 1], [MOST, MOST, 1, 2], [10**15, 1, 2, 2], [1] * 9])
def test_a_coverage_of_almost_1_and_of_0(counts):
    with np.errstate(all="raise"):
        for name, order in ESTIMATORS:
            assert entropy(counts, order, name, neurons=40) >= 0  # NaN is not


@given(any_counts, st.sampled_from(ESTIMATORS))
def test_never_nan_never_a_warning(counts, estimator):
    name, order = estimator
    with np.errstate(all="raise"):
        value = entropy(counts, order, name, neurons=40)
    assert value >= 0  # NaN is not


@given(any_counts, st.sampled_from(ESTIMATORS), st.randoms())
def test_order_and_zeros_do_not_matter(counts, estimator, random):
    name, order = estimator
    shuffled = random.sample([*counts, 0, 0], k=len(counts) + 2)
    assert entropy(shuffled, order, name, 40) == close(entropy(counts, order, name, 40))


@pytest.mark.parametrize("neurons", [64, 1000, 1024, 4096])
def test_nsb_of_more_states_than_a_float_holds(neurons):
    counts = [5, 3, 2, 1, 1]
    assert entropy(counts, estimator="nsb", neurons=neurons) == pytest.approx(
        entropy(counts, estimator="nsb", neurons=neurons - 10), abs=1e-6
    )
    assert entropy([1], estimator="nsb", neurons=neurons) == pytest.approx(neurons / 2, rel=1e-9)


def test_nsb_of_as_many_states_as_are_possible():
    assert entropy([9, 9, 9, 9], estimator="nsb", neurons=2) == pytest.approx(2, abs=0.1)
    assert entropy([MOST, MOST], estimator="nsb", neurons=1) == pytest.approx(1, abs=1e-9)


def test_state_counts_know_their_neurons():
    counts = StateCounts(np.array([[0], [2], [3]], np.uint8), np.array([3, 1, 1]), neurons=5)
    nsb = entropy([3, 1, 1], estimator="nsb", neurons=5)
    assert entropy(counts, estimator="nsb") == counts.entropy(estimator="nsb") == nsb
    with pytest.raises(ValueError, match="counts has 5 neurons, got neurons=2"):
        entropy(counts, estimator="nsb", neurons=2)
    assert counts.efficiency(estimator="nsb") == nsb / 5
    assert counts.efficiency(estimator="jackknife") == entropy([3, 1, 1], 1, "jackknife") / 5
    assert efficiency([3, 1, 1], 5, 2, 3, estimator="unbiased") == pytest.approx(
        entropy([3, 1, 1], 2, "unbiased") / entropy([3, 1, 1], 3, "unbiased")
    )


states = st.lists(st.integers(0, 30), min_size=1)


@settings(max_examples=20)
@given(states, states, st.sampled_from(ESTIMATORS))
def test_merged_counts_are_those_of_all_rows(first, second, estimator):
    name, order = estimator
    one, other, both = (
        count_states(np.array(rows, np.uint8)[:, None], 5)
        for rows in (first, second, first + second)
    )
    assert (one + other).entropy(order, name) == both.entropy(order, name)


def test_capture_points_pass_the_estimator_on():
    point = new_point(neurons=5, keep="counts")
    point.append(np.array([[0], [0], [0], [2], [3]], np.uint8), 5)
    assert point.entropy(estimator="nsb") == entropy([3, 1, 1], estimator="nsb", neurons=5)
    assert point.entropy(2, "unbiased") == entropy([3, 1, 1], 2, "unbiased")
    assert point.efficiency(estimator="jackknife") == entropy([3, 1, 1], 1, "jackknife") / 5


def test_effective_states():
    assert effective_states([5, 5, 5, 0]) == pytest.approx(3)
    assert effective_states([9, 1, 1], alpha=0) == 3
    assert effective_states([2, 1, 1], estimator="jackknife") == pytest.approx(
        2 ** entropy([2, 1, 1], estimator="jackknife")
    )
    assert effective_states([1], estimator="nsb", neurons=4096) == math.inf


# ---- counts on a GPU, of which this module asks only what NumPy hands on to CuPy ----------------


class OnAnotherDevice:
    """The part of a CuPy array that tallying uses."""

    def __init__(self, values):
        self.values = values

    def get(self):
        return self.values

    def __array_function__(self, function, types, arguments, options):
        assert function is np.unique
        return tuple(map(OnAnotherDevice, function(arguments[0].values, **options)))


def test_counts_on_a_device_are_sorted_there():
    from tensorstate_gpu.information.counts_of_counts import tally

    counts, states = tally(OnAnotherDevice(np.array([0, 5, 1, 1, 0, 2**30])))
    assert (counts.tolist(), states.tolist()) == ([1, 5, 2**30], [2, 1, 1])


# ---- invalid arguments --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CORRECTIONS, "nsb"])
@pytest.mark.parametrize("counts", [[0.5, 0.5], [2.0, 1.5], np.array([1, 2**63], np.uint64)])
def test_estimators_need_integer_counts(name, counts):
    with pytest.raises(ValueError, match=r"integer counts|at most"):
        entropy(counts, estimator=name, neurons=9)


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "float16", "float64", "longdouble"])
def test_whole_numbers_of_any_type_are_counts(dtype):
    expected = entropy([4, 1, 1], estimator="chao-wang-jost")
    assert entropy(np.array([4, 1, 1, 0], dtype), estimator="chao-wang-jost") == expected


def test_the_greatest_count_of_any_type():
    assert entropy(np.array([MOST, MOST], np.uint64), estimator="miller-madow") == close(1)


@pytest.mark.parametrize(
    ("counts", "error"), [([], ValueError), ([0], ValueError), ("a", TypeError)]
)
def test_invalid_counts(counts, error):
    with pytest.raises(error, match="counts"):
        entropy(counts, estimator="chao-shen")


@pytest.mark.parametrize("name", ["Plugin", "", None, 1, ["nsb"]])
def test_an_unknown_estimator_lists_those_there_are(name):
    with pytest.raises(ValueError, match=r"'plugin', 'miller-madow', .*, 'nsb', 'unbiased'\)"):
        entropy([1, 2], estimator=name)


@pytest.mark.parametrize(
    ("name", "alpha"),
    [("nsb", 2), ("grassberger", 0), ("unbiased", 1), ("unbiased", 6), ("unbiased", 2.5)],
)
def test_orders_that_an_estimator_does_not_define(name, alpha):
    with pytest.raises(ValueError, match=f"{name}.* is for alpha"):
        entropy([1, 2], alpha, name, neurons=3)


def test_nsb_needs_enough_neurons():
    with pytest.raises(ValueError, match="neurons="):
        entropy([1, 2], estimator="nsb")
    with pytest.raises(ValueError, match="neurons="):
        entropy(SimpleNamespace(counts=np.array([1, 2])), estimator="nsb")
    with pytest.raises(ValueError, match="5 states are more than 2 neurons"):
        entropy([1, 2, 1, 1, 1], estimator="nsb", neurons=2)
    with pytest.raises(TypeError, match="neurons"):
        entropy([1, 2], estimator="nsb", neurons=2.5)


def test_the_ratio_of_two_infinite_entropies_is_not_a_number():
    with pytest.raises(ValueError, match="both entropies are infinite"):
        efficiency([1, 1], 3, 2, 3, estimator="unbiased")


@pytest.mark.parametrize("neurons", [1023, 1024, 1025, 2000, 10**6, 2**24])
def test_many_neurons_take_nsb_no_longer(neurons):
    """All numbers of states were computed exactly: of 10**9 neurons, for minutes."""
    expected = entropy([3, 2, 1], estimator="nsb", neurons=1000)
    assert entropy([3, 2, 1], estimator="nsb", neurons=neurons) == pytest.approx(expected, rel=1e-8)
    with pytest.raises(ValueError, match="neurons must be at most 16,777,216, got 16777217"):
        entropy([3, 2, 1], estimator="nsb", neurons=2**24 + 1)
