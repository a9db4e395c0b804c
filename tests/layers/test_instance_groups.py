"""SampleTallies: how many instances of each label are in each group."""

import gc
import time

import numpy as np
import pytest

from tensorstate_gpu._layers.instance_groups import SampleTallies, groups_of, hashes_of

GROUPS = 4


def tallied(labels):
    tallies = SampleTallies(GROUPS)
    hashes = hashes_of(np.arange(len(labels)))
    tallies.add(hashes, labels, has_units=False)
    return hashes, tallies.by_label


@pytest.mark.parametrize(
    "labels",
    [
        np.array([3, -1, 3, 3, 7, -1]),
        np.array(["b", "a", "b", "long"]),
        np.array(["b", 1, "b", 1, "1"], dtype=object),
        np.array([5]),
        np.array([], np.int64),
    ],
    ids=str,
)
def test_each_label_has_its_own_instances(labels):
    hashes, found = tallied(labels)
    assert [*found] == [*dict.fromkeys(labels.tolist())]
    for label, sample in found.items():
        own = hashes[[each == label for each in labels.tolist()]]
        due = np.bincount(groups_of(own, GROUPS), minlength=GROUPS)
        assert sample.by_group == tuple(due.tolist())
        assert sample.fingerprint == int(own.sum())


@pytest.mark.parametrize("has_units", [False, True])
def test_pieces_are_one_sample(has_units):
    labels = np.random.default_rng(0).integers(0, 9, 100)
    hashes = hashes_of(np.arange(100))
    pieces = [(hashes[part], labels[part]) for part in (slice(0, 1), slice(1, 1), slice(1, 100))]
    tallies = SampleTallies(GROUPS)
    tallies.add_pieces(pieces, has_units=has_units)
    whole = SampleTallies(GROUPS)
    whole.add(hashes, labels, has_units=has_units)
    assert [*tallies.by_label.items()] == [*whole.by_label.items()]
    tallies.add_pieces([], has_units=True)
    assert tallies.by_label == whole.by_label


def test_many_labels_take_time_for_each_instance_only():
    texts = np.array([f"class {number}" for number in range(20_000)])

    def cpu_seconds(labels):
        def once():
            begun = time.process_time()
            tallied(texts[:labels])
            return time.process_time() - begun

        return min(once() for _ in range(5))

    gc.disable()  # it may run in the one and not in the other
    try:
        few, many = cpu_seconds(2_500), cpu_seconds(20_000)
    finally:
        gc.enable()
    assert many < 3 * 8 * few  # by labels x instances it would be 64 times as much
