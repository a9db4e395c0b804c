"""What holds for any captured layer, in whichever way its states are counted."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu import information

FIELDS = ("value", "plugin", "lower", "upper", "standard_error", "coverage", "least_coverage")
seeds = st.integers(0, 2**32)


class Made:
    """Inputs of some rows each, with labels and perhaps units: bits (rows, neurons)."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.neurons, inputs = int(rng.choice([1, 5, 8, 20, 65])), int(rng.integers(1, 150))
        self.rows = rng.integers(0, 5, inputs) if rng.random() < 0.3 else np.full(inputs, 3)
        self.rows[0] = 2
        pool = rng.random((12, self.neurons)) < rng.choice([0.1, 0.5])
        alike = np.repeat(pool[rng.integers(0, 12, inputs)], self.rows, axis=0)
        self.bits = alike ^ (rng.random(alike.shape) < rng.choice([0, 0.02, 0.5]))
        self.labels = rng.integers(0, rng.choice([1, 3, 40]), inputs)
        self.units = rng.integers(0, 1 + inputs // 3, inputs) if rng.random() < 0.3 else None

    @property
    def packed(self):
        return np.packbits(self.bits, axis=1, bitorder="little")

    def captured(self, store=None, **options):
        """One batch for each input: they have different numbers of rows."""
        point = ts.CapturePoint("layer", store, **options)
        point.declare(neurons=self.neurons)
        ends = np.cumsum([0, *self.rows])
        for each in range(len(self.rows)):
            unit = None if self.units is None else self.units[each : each + 1]
            own = self.packed[ends[each] : ends[each + 1]]
            point.append(own, 1, self.labels[each : each + 1], unit)
        return point


def fields(found):
    return {name: pytest.approx(getattr(found, name), abs=1e-9) for name in FIELDS}


@given(seed=seeds)
@settings(max_examples=25)
def test_labels_and_groups_add_up_to_the_whole(seed):
    made = Made(seed)
    point = made.captured()
    whole, by_label, grouped = point.histogram(), point.counts_by(), point.grouped()
    both = point.grouped_by()
    assert whole == ts.count_states(made.packed, made.neurons)
    assert ts.merge(by_label.values()) == grouped.together() == whole
    assert {label: each.together() for label, each in both.items()} == by_label
    of_rows = np.repeat(made.labels, made.rows)
    for label, counts in by_label.items():
        assert counts == ts.count_states(made.packed[of_rows == label], made.neurons)
    first, *others = both.values()
    merged = first.merge(*others)
    assert merged.parts == grouped.parts
    assert merged == functools.reduce(ts.GroupedCounts.merge, reversed(others), first)


@given(seed=seeds)
@settings(max_examples=15)
def test_running_counts_and_stores_have_the_same(seed, tmp_path_factory):
    made = Made(seed)
    point, kept = made.captured(), made.captured(keep="counts", groups=32)
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    with ts.Store(path, "x") as store:
        made.captured(store)
    for other in (kept, ts.Store(path)["layer"]):
        assert other.histogram() == point.histogram()
        assert other.counts_by() == point.counts_by()
        assert other.grouped() == point.grouped()
        assert other.grouped_by() == point.grouped_by()
        assert fields(other.estimate()) == fields(point.estimate())
    tables = [ts.Run([each]).report(by_label=True).by_label for each in (point, kept)]
    assert tables[0] == tables[1]


@given(seed=seeds)
@settings(max_examples=25)
def test_estimates_have_their_ends_in_order(seed):
    made = Made(seed)
    point = made.captured()
    for found, most in (
        (point.estimate(), made.neurons),
        (point.estimate("efficiency"), 1),
        (information.estimate_mutual_information(point.grouped_by()), np.inf),
    ):
        assert 0 <= found.lower <= found.upper <= most + 1e-9
        assert 0 <= found.least_coverage <= found.coverage <= 1
        if found.confidence_interval is not None:
            assert found.lower - 1e-12 <= found.value <= found.upper + 1e-12


@given(seed=seeds)
@settings(max_examples=20)
def test_what_names_and_signs_do_not_change(seed):
    """The order of neurons, which of two values fires, and the names of labels.

    An upper bound may change: among equally good dependence trees, the first is taken.
    """
    made, rng = Made(seed), np.random.default_rng(seed)
    point = made.captured()
    before, told = point.estimate(), information.estimate_mutual_information(point.grouped_by())
    of_labels = [*point.grouped_by().values()]
    others = {f"label {place}": of_labels[place] for place in rng.permutation(len(of_labels))}
    assert fields(information.estimate_mutual_information(others)) == fields(told)
    made.bits = ~made.bits[:, rng.permutation(made.neurons)]
    after = made.captured().estimate()
    for name in FIELDS:
        if name != "upper" or before.how[1] != "dependence tree":
            assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-9)


@given(seed=seeds)
@settings(max_examples=20)
def test_rows_that_occur_twice_say_nothing_more(seed):
    made = Made(seed)
    once = made.captured().estimate()
    made.bits, made.rows = np.repeat(made.bits, 2, axis=0), 2 * made.rows
    twice = made.captured().estimate()
    for name in ("plugin", "coverage", "least_coverage", "instances"):
        assert getattr(twice, name) == pytest.approx(getattr(once, name), abs=1e-12)


@given(seed=seeds)
@settings(max_examples=25)
def test_divergences_of_labels_keep_their_bounds(seed):
    counts = [*Made(seed).captured().counts_by().values()]
    one, other = counts[0], counts[-1]
    divergence = information.js_divergence(one, other)
    distance = information.total_variation(one, other)
    assert divergence == pytest.approx(information.js_divergence(other, one), abs=1e-12)
    assert distance**2 / (2 * np.log(2)) - 1e-9 <= divergence <= distance + 1e-9
    surplus = information.kl_divergence(one, other, smoothing=0.5)
    assert surplus >= 0
    code = information.cross_entropy(one, other, smoothing=0.5)
    smoothed = one.aligned_counts(other)[0] + 0.5
    assert code == pytest.approx(surplus + ts.entropy(smoothed), abs=1e-9)
