"""Labels of instances: given during the capture or afterwards, counted apart."""

import tracemalloc

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._layers.counters import LabelledCounters
from tests.support.ids import plain
from tests.support.kept_rows import KEEPS, OF_INSTANCE, ROWS, assert_counts, uneven
from tests.support.points import new_point


@pytest.mark.parametrize("labels", [np.arange(35) % 4, ["b", "a", "long", "c", "b"] * 7])
def test_counts_by_label(labels):
    histograms = uneven().counts_by(labels)
    array = np.array(labels)
    assert list(histograms) == sorted(set(array.tolist()))
    for label, histogram in histograms.items():
        assert type(label) in (int, str)
        assert_counts(histogram, ROWS[(array == label)[OF_INSTANCE]])


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("kinds", ["integers", "strings", "both"])
def test_labels_during_capture(keep, kinds):
    first = ["x", "y"] * 10 if kinds == "strings" else [1, 0] * 10
    second = [2, 1] * 10 if kinds == "integers" else ["longer", "x"] * 10
    point = new_point(keep=keep)
    point.append(ROWS[:20], 20, first)
    point.labels(second)
    point.append(ROWS[20:], 20)
    histograms = point.counts_by()
    expected = sorted({*first, *second}, key=lambda label: (type(label).__name__, label))
    assert list(histograms) == expected
    for label in expected:
        chosen = [given == label for given in first] + [g == label for g in second for _ in "ab"]
        assert_counts(histograms[label], ROWS[chosen])
    assert_counts(point.histogram(), ROWS)


@pytest.mark.parametrize("keep", KEEPS)
def test_missing_labels(keep):
    point = new_point(keep=keep)
    point.append(ROWS[:20], 20, np.arange(20))
    point.labels(np.arange(40))
    point.labels(None)
    point.append(ROWS[20:], 40)
    with pytest.raises(ValueError, match="40 of 60 instances were captured without labels"):
        point.counts_by()
    assert_counts(point.histogram(), ROWS)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ([1] * 9, ValueError),
        ([1] * 11, ValueError),
        ([], ValueError),
        (3, ValueError),
        ([[1]] * 10, ValueError),
        ([0.5] * 10, TypeError),
        ([None] * 10, TypeError),
    ],
)
def test_bad_labels_change_nothing(labels, error, keep):
    point = new_point(keep=keep)
    point.append(ROWS[:20], 20, [7] * 20)
    with pytest.raises(error, match="labels must be"):
        point.append(ROWS[20:40], 10, labels)
    with pytest.raises(error, match="labels must be"):
        set_and_append(point, labels)
    point.labels(None)
    assert (point.state_count, point.instance_count) == (20, 20)
    point.append(ROWS[40:], 10, [8] * 10)
    histograms = point.counts_by()
    assert list(histograms) == [7, 8]
    assert_counts(histograms[8], ROWS[40:])


def set_and_append(point, labels):
    point.labels(labels)
    point.append(ROWS[20:40], 10)


def test_labels_of_the_wrong_length_afterwards():
    with pytest.raises(ValueError, match="each of the 35 instances"):
        uneven().counts_by([0] * 34)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (["1", 1], TypeError, "all integers or all strings, got int too"),
        ([1, "1"], TypeError, "all integers or all strings, got int too"),
        (np.array(["1", 1], object), TypeError, "all integers or all strings, got int too"),
        (["a", "a\0"], ValueError, "zero character"),
        (np.ma.array([1, 2], mask=[False, True]), TypeError, "masked array"),
        ([1, [2]], ValueError, "integers or strings"),
        ([2**64, 1], TypeError, "integers or strings, got an integer of more than 64 bits"),
        ([None, None], TypeError, "integers or strings, got NoneType"),
        ({1, 2}, TypeError, "integers or strings, got set"),
        ([b"a", b"b"], TypeError, "integers or strings, got bytes"),
        (object(), TypeError, "integers or strings, got object"),
    ],
    ids=plain,
)
def test_labels_that_would_become_others_are_refused(labels, error, words, keep):
    point = new_point(keep=keep)
    with pytest.raises(error, match=f"labels.*{words}"):
        point.append(ROWS[:2], 2, labels)
    assert point.state_count == 0


@pytest.mark.parametrize("keep", KEEPS)
def test_true_and_false_are_the_integers_one_and_zero(keep):
    point = new_point(keep=keep)
    point.append(ROWS[:2], 2, [True, False])
    point.append(ROWS[2:5], 3, np.array([False, True, True]))
    point.append(ROWS[5:6], 1, [1])
    histograms = point.counts_by()
    assert [(type(label), label) for label in histograms] == [(int, 0), (int, 1)]
    assert_counts(histograms[1], ROWS[[0, 3, 4, 5]])


@pytest.mark.parametrize("keep", KEEPS)
def test_labels_as_other_libraries_hold_them(keep):
    point = new_point(keep=keep)
    point.append(ROWS[:2], 2, np.array(["cat", "dog"], object))  # as pandas holds strings
    point.append(ROWS[2:4], 2, torch.tensor([3, 4]))
    point.append(ROWS[4:6], 2, [torch.tensor(3), np.int8(4)])
    assert {label: h.total for label, h in point.counts_by().items()} == {
        3: 2,
        4: 2,
        "cat": 1,
        "dog": 1,
    }


def test_labels_of_counts_take_no_memory_per_instance():
    point = ts.CapturePoint("layer", keep="counts")
    point.declare(8)
    packed, labels = np.zeros((10_000, 1), np.uint8), np.zeros(10_000, np.int64)
    point.append(packed, 10_000, labels)
    tracemalloc.start()
    for _ in range(100):
        point.append(packed, 10_000, labels)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 80_000  # one batch's labels; a hundred would be 8 MB
    assert point.counts_by()[0].total == 1_010_000


@pytest.mark.parametrize("on_disk", [False, True])
def test_instances_without_states_between_others(on_disk, tmp_path, chunks_of):
    chunks_of(10)
    point = ts.CapturePoint("layer", tmp_path / "run" if on_disk else None)
    point.declare(8)
    for rows, instances, label in [(10, 10, "a"), (0, 2, "none"), (3, 3, "b"), (0, 1, "end")]:
        point.append(np.zeros((rows, 1), np.uint8), instances, [label] * instances)
    assert {label: part.total for label, part in point.counts_by().items()} == {"a": 10, "b": 3}
    given = ["a"] * 10 + ["none"] * 2 + ["b"] * 3 + ["end"]
    assert point.counts_by(given) == point.counts_by()


@pytest.mark.parametrize("keep", ["counts", "states"])
@pytest.mark.parametrize("groups", [None, 4])
def test_labels_are_numbered_by_input_and_not_by_row(keep, groups, monkeypatch):
    """There are often thousands of rows to an input."""
    numbered, numbers_of = [], LabelledCounters._numbers_of

    def noted(self, labels):
        numbered.append(len(labels))
        return numbers_of(self, labels)

    monkeypatch.setattr(LabelledCounters, "_numbers_of", noted)
    options = {"groups": groups} if keep == "counts" else {}
    point = ts.CapturePoint("layer", keep=keep, **options)
    point.declare(8)
    rows, labels = np.arange(60, dtype=np.uint8)[:, None], np.array([*"abcabc"])
    point.append(rows, 6, labels)
    counts = point.counts_by() if groups is None else point.grouped_by()
    assert numbered == [6]
    for label, each in counts.items():
        states = each.packed if groups is None else sum(each.parts).packed
        np.testing.assert_array_equal(states, rows[(labels == label).repeat(10)])
