"""Counts by group of instances: the same from rows, running counts and stores; merged; refused."""

import copy
import pickle

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu._layers.instance_groups import groups_of, hashes_of
from tensorstate_gpu.information.replicates import student_quantile
from tests.support.kept_rows import assert_counts
from tests.support.points import new_point, rows_of

INSTANCES, EACH = 300, 3
ROWS = rows_of(INSTANCES * EACH, neurons=5)
UNITS = np.arange(INSTANCES) // 4
LABELS = np.arange(INSTANCES) % 3


def captured(where=None, units=None, labels=None, batch=70, **options):
    """The rows, in batches of so many instances."""
    point = new_point(where, neurons=5, **options)
    for start in range(0, INSTANCES, batch):
        part = slice(start, start + batch)
        rows = ROWS.reshape(INSTANCES, -1)[part].reshape(-1, 1)
        notes = (None if given is None else given[part] for given in (labels, units))
        point.append(rows, len(rows) // EACH, *notes)
    return point


def expected(groups, of_instance, chosen=None):
    """The histogram of each group, by the oracle."""
    each = np.asarray(of_instance).repeat(EACH)
    kept = np.ones(len(ROWS), bool) if chosen is None else chosen.repeat(EACH)
    return [testing.count(ROWS[(each == group) & kept]) for group in range(groups)]


def assert_groups(grouped, histograms):
    for part, (packed, counts) in zip(grouped.parts, histograms, strict=True):
        np.testing.assert_array_equal(part.packed, packed)
        np.testing.assert_array_equal(part.counts, counts)


@pytest.fixture(params=["rows", "counts", "store"])
def way(request, tmp_path):
    """Options with which a capture point keeps its states."""
    return {
        "rows": {},
        "counts": {"keep": "counts", "groups": 32},
        "store": {"where": tmp_path / "run"},
    }[request.param]


@pytest.mark.parametrize("units", [None, UNITS, [f"clip {unit}" for unit in UNITS]])
def test_whole_units_are_in_one_group(way, units):
    units = None if units is None else np.array(units)
    ids = np.arange(INSTANCES) if units is None else units
    of_instance = groups_of(hashes_of(ids), 32)
    grouped = captured(units=units, **way).grouped()
    assert_groups(grouped, expected(32, of_instance))
    assert_counts(grouped.together(), ROWS)
    assert grouped.sample.by_group == tuple(np.bincount(of_instance, minlength=32))
    assert grouped.sample.has_units == (units is not None)


def test_by_label(way):
    of_instance = groups_of(hashes_of(np.arange(INSTANCES)), 32)
    by_label = captured(labels=LABELS, **way).grouped_by()
    assert list(by_label) == [0, 1, 2]
    for label, grouped in by_label.items():
        assert_groups(grouped, expected(32, of_instance, label == LABELS))
        assert grouped.sample.number == 100
    assert sum(grouped.sample.fingerprint for grouped in by_label.values()) % 2**64 == (
        captured().grouped().sample.fingerprint
    )


def test_labels_afterwards():
    assert captured().grouped_by(LABELS) == captured(labels=LABELS).grouped_by()
    with pytest.raises(ValueError, match="only counts are kept"):
        captured(keep="counts", groups=32).grouped_by(LABELS)


def test_batches_do_not_matter(way):
    way = {**way, "where": None}
    assert captured(units=UNITS, batch=7, **way).grouped() == captured(units=UNITS).grouped()


def test_counts_by_label_and_in_all_do_not_depend_on_groups():
    with_groups = captured(labels=LABELS, keep="counts", groups=32)
    without = captured(labels=LABELS, keep="counts")
    assert with_groups.counts_by() == without.counts_by()
    assert with_groups.histogram() == without.histogram()


@pytest.mark.parametrize("groups", [2, 16, 64])
def test_the_number_of_groups(groups, tmp_path):
    points = [
        captured(groups=groups),
        captured(keep="counts", groups=groups),
        captured(tmp_path / "run", groups=groups),
    ]
    for point in points:
        assert point.grouped() == captured().grouped(groups)
        assert len(point.grouped()) == groups
        point.close()
    assert ts.Store(tmp_path / "run")["layer"].grouped() == points[0].grouped()


def test_a_store_without_a_number_of_groups_has_the_default(tmp_path):
    captured(tmp_path / "run", units=UNITS, labels=LABELS).close()
    layer = ts.Store(tmp_path / "run")["layer"]
    assert "groups" not in layer.attributes()
    assert layer.grouped() == captured(units=UNITS).grouped()
    assert layer.grouped_by() == captured(units=UNITS, labels=LABELS).grouped_by()


def test_a_store_goes_on_with_its_groups(tmp_path):
    for _ in range(2):
        with ts.Store(tmp_path / "run", "a") as store:
            captured(store, groups=8)
    layer = ts.Store(tmp_path / "run")["layer"]
    assert (len(layer.grouped()), layer.grouped().sample.number) == (8, 600)


def test_copies_are_independent():
    point = captured(keep="counts", groups=32, labels=LABELS)
    grouped = point.grouped()
    for twin in (copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert twin.grouped() == grouped
        twin.append(ROWS[:3], 1, [0])
        assert twin.grouped() != grouped
    assert point.grouped() == grouped
    assert pickle.loads(pickle.dumps(grouped)) == grouped
    assert hash(pickle.loads(pickle.dumps(grouped))) == hash(grouped)


# ---- which instances ----------------------------------------------------------------------------


def test_machines_merge():
    """Units fall into the same group everywhere; so the whole is that of one machine."""
    halves = []
    for part in (slice(0, 152), slice(152, None)):
        point = new_point(neurons=5, keep="counts", groups=32)
        point.append(
            ROWS.reshape(INSTANCES, -1)[part].reshape(-1, 1), len(UNITS[part]), units=UNITS[part]
        )
        halves.append(point.grouped())
    whole = captured(units=UNITS).grouped()
    assert halves[0] + halves[1] == halves[1].merge(halves[0]) == whole
    assert whole.estimate() == (halves[0] + halves[1]).estimate()


def test_the_same_instances_have_the_same_sample():
    one, other = captured(), captured(keep="counts", groups=32)
    assert one.grouped().sample == other.grouped().sample
    other.append(ROWS[:3], 1)
    assert one.grouped().sample != other.grouped().sample
    assert captured(units=UNITS).grouped().sample != captured(units=UNITS + 1).grouped().sample


def test_hashes_are_the_same_everywhere():
    """The first numbers of SplitMix64, and `printf a | b2sum -l 64`: other machines must agree."""
    assert hashes_of(np.array([0, 1])).tolist() == [16294208416658607535, 10451216379200822465]
    assert hashes_of(np.array([1], np.uint8)) == hashes_of(np.array([1], np.int64))
    a, b = 3405396810240292928, 8453121595177857668
    assert hashes_of(np.array(["a", "b", "a"])).tolist() == [a, b, a]


def test_consecutive_instances_are_spread():
    groups = groups_of(hashes_of(np.arange(32_000)), 32)
    assert 900 < np.bincount(groups).min() <= np.bincount(groups).max() < 1100
    every = np.bincount(groups[::32], minlength=32)  # one class in 32, in order
    assert every.max() < 60


# ---- what is refused ----------------------------------------------------------------------------


def test_counts_that_were_not_kept_by_group():
    point = captured(keep="counts")
    for read in (point.grouped, point.grouped_by, point.estimate):
        with pytest.raises(ts.errors.RowsNotKept, match="not by group"):
            read()
    with pytest.raises(ts.errors.RowsNotKept, match="kept for 32 groups, not for 16"):
        captured(keep="counts", groups=32).grouped(16)


def test_units_of_some_instances_only(way):
    point = captured(units=UNITS, **way)
    point.append(ROWS[:3], 1)
    with pytest.raises(
        ts.errors.LabelsMissing, match="1 of 301 instances were captured without units"
    ):
        point.grouped()


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_rows_that_belong_to_no_known_instance(keep):
    point = captured(keep=keep, groups=32)
    point.record(ROWS[:5], 5, 1, ((2, -5),))
    with pytest.raises(ts.errors.InputsUnknown, match="5 of 905 states"):
        point.grouped()
    assert point.histogram().total == 905


def test_instances_without_rows_belong_to_the_sample(way):
    point = captured(**way)
    before = point.grouped()
    point.append(ROWS[:0], 4)
    after = point.grouped()
    assert after.parts == before.parts
    assert after.sample.number == before.sample.number + 4


@pytest.mark.parametrize(
    ("groups", "error"), [(1, ValueError), (1025, ValueError), (0.5, TypeError), (True, TypeError)]
)
def test_a_bad_number_of_groups(groups, error):
    with pytest.raises(error, match="groups must be"):
        ts.CapturePoint("layer", groups=groups)
    with pytest.raises(error, match="groups must be"):
        captured().grouped(groups)


def test_too_many_labels_for_their_numbers(monkeypatch):
    point = new_point(keep="counts", groups=1024)
    counters = point.intake.accumulator._counters
    counters._numbers = dict.fromkeys(range(2**10), 0)
    counters._groups = 2**22
    with pytest.raises(OverflowError, match="1,024 labels"):
        point.append(rows_of(1), 1, ["one more"])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"parts": [1, 2]}, TypeError, "parts must be StateCounts, got int"),
        ({"instances": [1]}, ValueError, "got 2 and 1"),
        ({"instances": [1, -3]}, ValueError, "instances must not be negative, got -3"),
        ({"instances": [1, 1.7]}, TypeError, "instances must be an integer, got float 1.7"),
        ({"parts": [ts.StateCounts.empty(3)], "instances": [1]}, ValueError, "two or more groups"),
        ({"parts": [ts.StateCounts.empty(3), ts.StateCounts.empty(4)]}, ValueError, "same neurons"),
    ],
)
def test_invalid_grouped_counts(change, error, words):
    valid = {"parts": [ts.StateCounts.empty(3)] * 2, "instances": [0, 0]}
    with pytest.raises(error, match=words):
        ts.GroupedCounts(**(valid | change))


def test_grouped_counts_merge_with_their_like_only():
    two, three = (ts.GroupedCounts([ts.StateCounts.empty(3)] * n, [0] * n) for n in (2, 3))
    with pytest.raises(ValueError, match="cannot merge 2 groups with 3"):
        two.merge(three)
    with pytest.raises(TypeError, match="got int"):
        two.merge(1)
    with pytest.raises(ValueError, match="holds no rows"):
        two.estimate()
    assert repr(two) == "GroupedCounts(2 groups, 0 instances, 0 states, 3 neurons)"


def test_an_estimate_has_the_neurons_of_its_counts():
    with pytest.raises(ValueError, match="groups has 5 neurons, got neurons=6"):
        ts.information.estimate(captured().grouped(), neurons=6)


def test_coverage_is_of_rows_not_of_instances():
    parts = [
        ts.StateCounts(np.array([[0], [1]], np.uint8), [3, 3], 1),
        ts.StateCounts(np.array([[0]], np.uint8), [6], 1),
    ]
    assert ts.GroupedCounts(parts, [2, 2]).estimate().coverage == 1 - 3 / 12


def test_only_groups_are_independent_where_instances_may_belong_together():
    singles = np.arange(200, dtype=np.uint8).reshape(20, 10, 1)
    parts = [ts.count_states(each, 8) for each in singles]
    for has_units, independent in ((False, 200), (True, 20)):
        found = ts.GroupedCounts(parts, [10] * 20, has_units=has_units).estimate()
        expected = 2 * np.log2(independent) + np.log2(1 - 1 / 20) - 2 * np.log2(4.7439)
        assert found.lower == pytest.approx(min(8, expected))


def test_the_table_numbers_states_across_groups():
    grouped = captured().grouped()
    table = grouped.group_table()
    together = grouped.together()
    np.testing.assert_array_equal(table.total, together.counts)
    for part, places, counts in zip(grouped.parts, table.places, table.counts, strict=True):
        np.testing.assert_array_equal(together.packed[places], part.packed)
        np.testing.assert_array_equal(counts, part.counts)
    bits = np.unpackbits(ROWS, axis=1, count=5, bitorder="little")
    np.testing.assert_array_equal(table.firing.sum(axis=0), bits.sum(axis=0))


def test_the_upper_bound_by_the_neurons_own_entropies():
    """Five neurons that seldom fire, and rows that are never seen twice."""
    rng = np.random.default_rng(0)
    point = new_point(neurons=200)
    rows = np.packbits(rng.random((2000, 200)) < 0.1, axis=1, bitorder="little")
    point.append(rows, 2000)
    found = point.estimate()
    truth = 200 * -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    assert found.how == ("no coincidences", "entropies of the neurons")
    assert truth < found.upper < 1.05 * truth
    assert found.lower < truth
    firing = point.grouped().group_table().firing
    each = np.array([part.total for part in point.grouped().parts])

    def bits(firing, rows):
        p = firing / rows
        own = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum()
        return own + 200 / (2 * rows * np.log(2))

    value, share = bits(firing.sum(axis=0), 2000), each / 2000
    without = [bits(firing.sum(axis=0) - firing[g], 2000 - each[g]) for g in range(32)]
    deviations = (1 - share) * (np.array(without) - value)
    deviations -= share * deviations.sum()
    groups = 1 / (share**2).sum()
    error = np.sqrt((deviations**2).sum() * groups / (groups - 1))
    margin = error * student_quantile(groups - 1)
    assert found.upper == pytest.approx(value + margin + ts.entropy([3, 2000 - 3]), rel=1e-9)
