"""Estimates of networks, of differences, and of what states tell about labels."""

import math

import numpy as np
import pytest

from tensorstate_gpu import CapturePoint, GroupedCounts, StateCounts
from tensorstate_gpu.information import (
    aIQ,
    ceiling,
    efficiency,
    entropy,
    estimate,
    estimate_aIQ,
    estimate_difference,
    estimate_mutual_information,
    estimate_network_efficiency,
    mutual_information,
    network_efficiency,
)
from tensorstate_gpu.information.efficiencies import network_efficiencies_with
from tests.information.test_estimates import SHARES, drawn
from tests.support.python_calls import calls_of


def test_efficiency():
    groups = drawn()
    bits, share = estimate(groups, neurons=3), estimate(groups, "efficiency", neurons=3)
    total = groups.sum(axis=0)
    assert share.value == efficiency(total, 3, estimator="chao-wang-jost")
    for name in ("plugin", "lower", "upper", "slope", "standard_error"):
        assert getattr(share, name) == pytest.approx(getattr(bits, name) / 3), name
    assert share.upper < ceiling(3200, 3)


def test_network_efficiency_and_aIQ():
    layers = [estimate(drawn(seed), "efficiency", neurons=n) for seed, n in ((1, 3), (2, 5))]
    network = estimate_network_efficiency(layers)
    assert network.value == network_efficiency([layer.value for layer in layers])
    assert network.plugin == network_efficiency([layer.plugin for layer in layers])
    relative = [layer.standard_error / layer.value for layer in layers]
    errors = network.standard_error / network.value
    assert errors == pytest.approx(math.hypot(*relative) / 2, rel=0.5)
    quotient = estimate_aIQ(network, 0.9, 2)
    assert quotient.value == pytest.approx(aIQ(network.value, 0.9, 2))
    growth = aIQ(network.value, 0.9, 2) / (3 * network.value)
    assert quotient.standard_error == pytest.approx(growth * network.standard_error, rel=1e-2)
    assert (network.quality, quotient.quality) == ("good", "good")


def test_a_network_is_as_good_as_its_worst_layer():
    good = estimate(drawn(), "efficiency", neurons=3)
    singles = np.eye(3200, dtype=np.int64).reshape(32, 100, 3200).sum(axis=1)
    network = estimate_network_efficiency([good, estimate(singles, "efficiency", neurons=64)])
    assert (network.quality, network.coverage) == ("bounds only", 0)
    assert network.how == ("interval, no coincidences", "interval, neurons")
    assert network.lower < network.value < network.upper


def test_what_a_network_has_of_its_layers():
    equal = np.random.default_rng(3).multinomial(100, np.full(8, 1 / 8), size=32)
    cut = estimate(equal, "efficiency", neurons=3)
    free = estimate(drawn(), "efficiency", neurons=6)
    assert (cut.is_cut, free.is_cut) == (True, False)
    for layers in ([cut, free], [free, cut]):
        network = estimate_network_efficiency(layers)
        assert network.is_cut
        assert network.rows == 6400
        assert network.how == ("interval", ", ".join(dict.fromkeys(e.how[1] for e in layers)))
        effects = [each.design_effect for each in layers]
        assert network.design_effect == max(effects) > min(effects)
    singles = estimate(np.eye(100, dtype=np.int64), "efficiency", neurons=64)
    assert estimate_network_efficiency([singles, singles]).how == ("no coincidences", "neurons")


@pytest.mark.parametrize("values", [(0.5, 0.25, 1e-300), (0.5, 0.0, 0.25), (0.0, 0.0, 0.5), (0.3,)])
def test_one_layer_each_is_changed(values):
    others = [0.0, 0.75, 0.5][: len(values)]
    expected = [
        network_efficiency([*values[:place], other, *values[place + 1 :]])
        for place, other in enumerate(others)
    ]
    assert network_efficiencies_with(values, others) == pytest.approx(expected, rel=1e-12, abs=0)
    assert network_efficiencies_with(values, values) == [network_efficiency(values)] * len(values)


def test_what_is_below_nothing_counts_as_nothing():
    """A difference of efficiencies, which may be negative."""
    good = estimate(drawn(), "efficiency", neurons=3)
    worse = estimate(np.full((32, 1), 100), "efficiency", neurons=3)
    below = estimate_difference(worse, good)
    network = estimate_network_efficiency([below, good])
    assert below.value < 0
    assert (network.value, network.standard_error) == (0, 0)


def test_more_layers_take_no_more_work_each():
    """2,000 of them took 5 seconds."""
    layer = estimate(drawn(), "efficiency", neurons=3)

    def calls(layers):
        return len(calls_of(lambda: estimate_network_efficiency([layer] * layers)))

    assert calls(400) < 4.5 * calls(100)


def test_a_layer_that_does_nothing():
    dead = estimate(np.full((32, 1), 100), "efficiency", neurons=3)
    network = estimate_network_efficiency([dead, estimate(drawn(), "efficiency", neurons=3)])
    assert (network.value, network.standard_error, estimate_aIQ(network, 0.9, 2).value) == (0, 0, 0)


def test_the_difference_of_networks_on_the_same_instances():
    """What is special about the instances cancels."""
    rng = np.random.default_rng(5)
    common = rng.multinomial(1, SHARES, size=(32, 100)).argmax(axis=2)
    first = np.array([np.bincount(group, minlength=6) for group in common])
    second = np.array([np.bincount(np.minimum(group, 4), minlength=6) for group in common])
    one, two = estimate(first), estimate(second)
    found = estimate_difference(one, two)
    assert found.value == one.value - two.value
    assert found.standard_error < min(one.standard_error, two.standard_error) / 2
    assert found.lower < found.value < found.upper
    assert estimate_difference(two, one).lower == pytest.approx(-found.upper)
    independent = estimate_difference(one, estimate(drawn(9)))
    expected = math.hypot(one.standard_error, estimate(drawn(9)).standard_error)
    assert independent.standard_error == pytest.approx(expected, rel=0.4)


def test_the_difference_of_samples_that_are_independent():
    one, other = estimate(drawn(1)), estimate(drawn(2, rows=50, groups=24))
    found = estimate_difference(one, other, same_instances=False)
    squares = one.standard_error**2, other.standard_error**2
    assert found.value == one.value - other.value
    assert found.standard_error == pytest.approx(math.sqrt(sum(squares)), rel=1e-12)
    assert found.replicates.bias == one.replicates.bias - other.replicates.bias
    assert found.instances == one.instances + other.instances
    degrees = sum(squares) ** 2 / (squares[0] ** 2 / 31 + squares[1] ** 2 / 23)
    assert found.replicates.groups == pytest.approx(degrees + 1, rel=1e-9)
    reverse = estimate_difference(other, one, same_instances=False)
    assert reverse.lower == pytest.approx(-found.upper)
    # Its instances are those of neither.
    with pytest.raises(ValueError, match="must be of the same instances"):
        estimate_difference(found, one)


def test_the_same_units_are_not_independent():
    """As two conditions of the same subjects, or one estimate and itself."""
    rng, units = np.random.default_rng(0), np.repeat(np.arange(40), 5)

    def estimate_of(units):
        point = CapturePoint("layer")
        point.declare(neurons=3)
        point.append(rng.integers(0, 8, (200, 1), np.uint8), 200, units=units)
        return point.estimate()

    one, other = estimate_of(units), estimate_of(units)
    for second in (one, other):
        with pytest.raises(ValueError, match="are of the same units"):
            estimate_difference(one, second, same_instances=False)
    others = estimate_of(units + 100)
    assert estimate_difference(one, others, same_instances=False).instances == 400


def test_an_independent_difference_without_any_error():
    always = np.full((32, 1), 100)
    found = estimate_difference(estimate(always), estimate(always), same_instances=False)
    assert (found.value, found.standard_error, found.replicates.groups) == (0, 0, 32)
    few = estimate_difference(estimate(drawn()), estimate(drawn(groups=8)), same_instances=False)
    assert few.standard_error is None
    assert few.quality == "bounds only"


@pytest.mark.long
def test_intervals_of_differences_of_independent_samples_hold():
    truths = [entropy(np.array(shares)) for shares in (SHARES, SHARES[:3])]
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        more = rng.multinomial(60, SHARES, size=32)
        fewer = rng.multinomial(12, np.array(SHARES[:3]) / sum(SHARES[:3]), size=32)
        found = estimate_difference(estimate(more), estimate(fewer), same_instances=False)
        low, high = found.confidence_interval
        held += low <= truths[0] - truths[1] <= high
    assert held >= 276


@pytest.mark.parametrize("other", [drawn(rows=99), drawn(groups=31)])
def test_other_instances_are_refused(other):
    one, other = estimate(drawn()), estimate(other)
    for measure in (estimate_difference, lambda *parts: estimate_network_efficiency(parts)):
        with pytest.raises(ValueError, match="must be of the same instances"):
            measure(one, other)
    words = r"got 3,\d+ and 3,200: .*same_instances=False is for independent samples"
    with pytest.raises(ValueError, match=words):
        estimate_difference(one, other)


def test_what_is_no_estimate():
    with pytest.raises(TypeError, match="efficiencies must be Estimates, got float"):
        estimate_network_efficiency([0.5])
    with pytest.raises(ValueError, match="efficiencies is empty"):
        estimate_network_efficiency([])
    with pytest.raises(TypeError, match="first and second must be Estimates"):
        estimate_difference(estimate(drawn()), 1.0)
    with pytest.raises(TypeError, match=r"got CapturePoint: its estimate\(\) makes one"):
        estimate_difference(CapturePoint("one"), CapturePoint("other"))
    with pytest.raises(ValueError, match="weight must be greater than 0"):
        estimate_aIQ(estimate(drawn(), "efficiency", neurons=3), 0.9, 0)
    with pytest.raises(ValueError, match="accuracy must be from 0 to 1, got 97"):
        estimate_aIQ(estimate(drawn(), "efficiency", neurons=3), 97, 2)


def test_bits_are_no_efficiencies():
    bits, ratio = estimate(drawn()), estimate(drawn(), "efficiency", neurons=3)
    information = estimate_mutual_information(dict(enumerate([drawn(1), drawn(2)])))
    for wrong in (bits, information, estimate_difference(bits, bits)):
        assert wrong.in_bits
        with pytest.raises(ValueError, match="efficiencies must be Estimates of efficiencies"):
            estimate_network_efficiency([ratio, wrong] if wrong is bits else [wrong])
        with pytest.raises(ValueError, match="efficiency must be Estimates of efficiencies"):
            estimate_aIQ(wrong, 0.9, 2)
    for one, other in ((bits, ratio), (ratio, bits)):
        with pytest.raises(ValueError, match="both be in bits, or both be ratios"):
            estimate_difference(one, other)
    assert not estimate_difference(ratio, ratio).in_bits


# ---- labels -------------------------------------------------------------------------------------


def labelled(told, seed=0, states=6):
    """Three labels; the state of a row is that of its label as often as ``told`` says."""
    rng = np.random.default_rng(seed)
    tables = {}
    for label in range(3):
        own = np.eye(states)[label]
        tables[label] = rng.multinomial(30, told * own + (1 - told) / states, size=32)
    return tables


def test_mutual_information():
    tables = labelled(0.6)
    found = estimate_mutual_information(tables)
    assert found.value == pytest.approx(
        mutual_information([table.sum(axis=0) for table in tables.values()])
    )
    p = 0.6 * np.eye(3, 6) + 0.4 / 6
    truth = entropy(p.sum(axis=0)) - entropy(p[0])
    assert found.confidence_interval[0] < truth < found.confidence_interval[1]
    assert found.upper - found.value < 0.1
    assert found.plugin > found.value


def test_labels_that_tell_nothing():
    found = estimate_mutual_information(labelled(0.0, seed=1))
    assert found.confidence_interval[0] == 0
    assert found.value < 0.02
    assert found.standard_error > 0  # also where the value is cut at 0


def test_a_state_that_was_not_seen_may_tell_its_label():
    always = {label: np.full((32, 1), 5) for label in range(2)}
    found = estimate_mutual_information(always)
    assert (found.value, found.lower, found.quality) == (0, 0, "good")
    assert found.upper == pytest.approx(entropy([3, found.instances - 3]))


# How often each label (row) and state (column) occur together, of 100 or 1,000 instances.
A_RARE_STATE = [[50, 0], [48, 2]]  # of samples of 100 instances, 13 % have none of it
A_RARE_LABEL = [[98, 0], [0, 2]]
THE_LABEL = 10 * np.eye(10, dtype=int)
NEARLY_THE_LABEL = [[495, 5], [5, 495]]


@pytest.mark.parametrize(
    "shares", [A_RARE_STATE, A_RARE_LABEL, THE_LABEL, NEARLY_THE_LABEL], ids=range(4)
)
@pytest.mark.parametrize("instances", [100, pytest.param(400, marks=pytest.mark.long)])
def test_intervals_hold_for_what_few_instances_show(shares, instances):
    shares = np.array(shares)
    truth = entropy(shares.sum(0)) + entropy(shares.sum(1)) - entropy(shares.ravel())
    rng, held = np.random.default_rng(0), 0
    for _ in range(40):
        label, state = np.divmod(
            rng.choice(shares.size, instances, p=shares.ravel() / shares.sum()), shares.shape[1]
        )
        tables = np.zeros((len(shares), 32, shares.shape[1]), np.int64)
        np.add.at(tables, (label, np.arange(instances) % 32, state), 1)
        seen = {label: table for label, table in enumerate(tables) if table.any()}
        found = estimate_mutual_information(seen)
        assert found.confidence_interval is not None
        held += found.lower <= truth <= found.upper
    assert held >= 37


@pytest.mark.parametrize(("told_by", "inputs"), [(1, 500), (1, 1000), (10, 10_000)])
def test_intervals_hold_for_many_labels(told_by, inputs):
    """The labels of a sample have less entropy than those of the source: of a hundred, far less.

    Of 500 inputs, half of the samples lack a label.
    """
    rng, held = np.random.default_rng(0), 0
    for _ in range(20):
        labels = rng.integers(0, 100, inputs)
        states = told_by * labels + rng.integers(0, told_by, len(labels))
        tables = np.zeros((100, 32, 100 * told_by), np.int64)
        np.add.at(tables, (labels, np.arange(len(labels)) % 32, states), 1)
        found = estimate_mutual_information(
            {n: each for n, each in enumerate(tables) if each.any()}
        )
        assert found.confidence_interval is not None
        assert found.lower > math.log2(100) - 1
        held += found.lower <= math.log2(100) <= found.upper
    assert held >= 19


def test_states_that_tell_everything():
    tables = {n: np.full((32, 1), 5) * np.eye(3, dtype=np.int64)[n] for n in range(3)}
    found = estimate_mutual_information(tables)
    assert found.value == pytest.approx(math.log2(3))
    assert found.value <= found.upper == pytest.approx(math.log2(3))


def test_states_tell_at_most_which_of_the_labels_it_is():
    """Of two labels at most a bit, and of unequal ones more than the sample's have."""
    for sizes in ([500, 500], [450, 550], [2, 998], [200, 300, 210, 290]):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        rng = np.random.default_rng(len(sizes))
        tables = np.zeros((len(sizes), 32, 1000), np.int64)
        np.add.at(tables, (labels, rng.integers(0, 32, 1000), np.arange(1000)), 1)
        found = estimate_mutual_information(dict(enumerate(tables)))
        assert found.quality == "bounds only"  # each row has a state of its own
        assert entropy(sizes) <= found.upper <= math.log2(len(sizes))
        assert len(set(sizes)) == 1 or entropy(sizes) < found.upper


@pytest.mark.parametrize(
    ("by_label", "error", "words"),
    [
        ({}, ValueError, "by_label is empty"),
        ({math.nan: [[1, 2]], 1: [[1, 2]]}, ValueError, "a label of by_label is NaN"),
        ({0: [[1, 2]], 1: [[1, 2, 3]]}, ValueError, "the same groups and states"),
        ({0: [[1, 2]], 1: [[1, 2], [2, 1]]}, ValueError, "the same groups and states"),
        ({0: [1, 2]}, TypeError, "groups must be"),
    ],
)
def test_invalid_labels(by_label, error, words):
    with pytest.raises(error, match=words):
        estimate_mutual_information(by_label)


ONE_STATE = StateCounts(np.array([[1]], np.uint8), [5], 3)
GROUPED = GroupedCounts([ONE_STATE, ONE_STATE], [5, 5])


@pytest.mark.parametrize(
    ("by_label", "got"),
    [
        (
            {0: GROUPED, 1: [[1, 2], [3, 4]]},
            "by group, or arrays alone, got GroupedCounts and list",
        ),
        (
            {0: [[1, 2], [3, 4]], 1: GROUPED},
            "by group, or arrays alone, got GroupedCounts and list",
        ),
        ({0: GROUPED.parts[0]}, r"\(groups, states\), got StateCounts"),
        ({0: GROUPED, 1: GROUPED.parts[0]}, r"\(groups, states\), got StateCounts"),
        ({0: GROUPED, 1: None}, "got GroupedCounts and NoneType"),
    ],
)
def test_labels_of_several_kinds(by_label, got):
    with pytest.raises(TypeError, match=got):
        estimate_mutual_information(by_label)


def test_one_label_tells_nothing():
    found = estimate_mutual_information({"all": drawn()})
    assert (found.value, found.lower) == (0, 0)
    # Of another label there may be 3 in so many instances.
    assert found.upper == pytest.approx(entropy([3, found.instances - 3]), rel=0.5)


def test_the_least_coverage_of_information_counts_the_instances_of_all_labels():
    groups = np.zeros((32, 3), np.int64)
    groups[:, 0] = 1
    many = 30 * groups
    many[0, 1], many[1, 2] = 10, 10
    found = estimate_mutual_information({"few": groups, "many": many})
    c = found.coverage
    assert (found.instances, c) == (1012, 1 - 20 / 1012)
    least = found.least_coverage  # of which the sample's is a normal error away
    assert c - least == pytest.approx(1.645 * (least * (1 - least) / 1012) ** 0.5)
