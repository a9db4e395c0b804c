"""Counts by label and by group that are larger than the memory limit."""

import dataclasses
import pickle
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._layers import kept_counters, run_counters
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu._states import sorted_runs
from tensorstate_gpu._states.sorted_runs import (
    MemoryRun,
    RowsBehindPrefix,
    ScratchRun,
    blocks_between,
)
from tensorstate_gpu.information import estimate_mutual_information, mutual_information
from tensorstate_gpu.reporting import LabelTable
from tensorstate_gpu.reporting.layer_report import measured_layer
from tests.support.points import new_point, rows_of
from tests.support.runs_on_disk import BUDGET, small_runs  # noqa: F401
from tests.support.thread_ranks import on_ranks, ranks_are_given  # noqa: F401

pytestmark = pytest.mark.usefixtures("small_runs", "fewer_blocks")

ROWS = rows_of(4000, neurons=20)[np.arange(4000) % 2500]  # some come again
LABELS = np.array([7, -5, 3, 20_000])[np.arange(4000) // 11 % 4]


@pytest.fixture
def fewer_blocks(small_runs, monkeypatch):  # noqa: F811
    """Each label and group has blocks of its own: these need not be the smallest, too."""
    monkeypatch.setattr(sorted_runs, "_BLOCK_BYTES", 1 << 10)


@pytest.fixture(params=["rows", "counts", "capture", "taken back"])
def layer(request, tmp_path):
    """A layer with labels and units, whose counts in memory are about as large as the limit."""
    keep = "states" if request.param == "rows" else "counts"
    store = ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None)
    point = new_point(store, neurons=20, keep=keep, groups=8 if keep == "counts" else None)
    for first in range(0, 4000, 400):
        append(point, slice(first, first + 400))
        if first % 1200 == 0 and first < 3000:
            store.commit()
    if request.param == "taken back":
        point.append(ROWS[:500], 500, LABELS[:500], np.arange(500))
        point.intake.accumulator.rewind_pass()
    if request.param in ("rows", "counts"):
        store.close()
        yield ts.Store(tmp_path / "run.zarr")["layer"]
    else:
        yield point
        store.close()


def append(point, part):
    point.append(ROWS[part], len(ROWS[part]), LABELS[part], np.arange(part.start, part.stop) // 3)
    point.intake.accumulator.mark_pass_end()


@dataclasses.dataclass
class Expected:
    by_label: object
    by_group: object
    by_both: object


@pytest.fixture
def expected():
    """What is counted in memory."""
    point = new_point(None, neurons=20)
    point.append(ROWS, len(ROWS), LABELS, np.arange(len(ROWS)) // 3)
    return Expected(point.counts_by(), point.grouped(8), point.grouped_by(groups=8))


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    monkeypatch.setattr(run_counters.RunCounters, "_budget", BUDGET)
    ts.set_memory_limit(BUDGET // 2)


def size_of(grouped):
    """The bytes of the counts of all groups."""
    return sum(part.packed.nbytes + part.counts.nbytes for part in grouped.parts)


def numbers(estimate):
    return {name: n for name, n in estimate.as_dict().items() if isinstance(n, float | int)}


def test_counts_by_label(layer, expected, little_memory):
    found = layer.counted_by()
    assert list(found) == [-5, 3, 7, 20_000]
    assert all(isinstance(each, ts.StoredCounts) for each in found.values())
    assert {label: each.load() for label, each in found.items()} == expected.by_label
    assert found[7].entropy() == expected.by_label[7].entropy()
    with pytest.raises(MemoryError, match=r"counted_by\(\) and counted_groups\(\)"):
        layer.counts_by()
    ts.set_memory_limit(1 << 30)
    assert layer.counts_by() == expected.by_label


def test_counts_by_group(layer, expected, little_memory):
    found, whole = layer.counted_groups(8), expected.by_group
    assert isinstance(found, ts.StoredGroups)
    assert (len(found), found.neurons, found.sample) == (8, 20, whole.sample)
    for measure in ("entropy", "efficiency"):
        estimate = numbers(whole.estimate(measure))
        assert numbers(found.estimate(measure)) == pytest.approx(estimate, rel=1e-12)
    with pytest.raises(MemoryError, match=r"counted_by\(\) and counted_groups\(\)"):
        layer.grouped(8)
    ts.set_memory_limit(1 << 30)
    assert found.load() == layer.grouped(8) == whole
    assert found.together().load() == whole.together()


def test_counts_by_label_and_group(layer, expected, little_memory):
    found, whole = layer.counted_groups_by(groups=8), expected.by_both
    assert list(found) == [-5, 3, 7, 20_000]
    for label, each in found.items():
        assert each.sample == whole[label].sample
        assert numbers(each.estimate()) == pytest.approx(numbers(whole[label].estimate()))
    # Each label fits, and all together do not.
    ts.set_memory_limit(max(map(size_of, whole.values())))
    with pytest.raises(MemoryError, match="distinct states with their counts are"):
        layer.grouped_by(groups=8)
    ts.set_memory_limit(sum(map(size_of, whole.values())))
    assert layer.grouped_by(groups=8) == whole
    assert {label: each.load() for label, each in found.items()} == whole


def test_estimates_and_reports_are_those_in_memory(layer, expected, little_memory):
    if "groups" not in layer.attributes():
        assert layer.estimate().sample.number == len(ROWS)  # in 32 groups
        return
    whole = expected.by_group.estimate("efficiency")
    assert numbers(layer.estimate("efficiency")) == pytest.approx(numbers(whole))
    table = measured_layer(layer).report
    assert (table.estimate, table.upper) == pytest.approx((whole.value, whole.upper))


def test_a_report_says_how_far_it_is_while_counts_are_read(layer, little_memory):
    told = []
    model = SimpleNamespace(efficiency_layers=[layer])
    found = ts.report(model, by_label=True, progress=lambda *now: told.append(now))
    assert told == sorted(told)
    assert {total for _, total in told} == {8000}  # all together, and by label
    done = [0, *(done for done, _ in told)]
    assert done[-1] == 8000
    assert max(np.diff(done)) <= 1000  # a fourth of the layer, for which some readings are not told
    assert len({*done}) > 20
    assert str(found) == str(ts.report(model, by_label=True))


def test_tables_by_label_are_those_in_memory(layer, expected, little_memory):
    whole = expected.by_both if "groups" in layer.attributes() else None
    found = LabelTable.of_layer(layer)
    ts.set_memory_limit(1 << 30)
    in_memory = LabelTable.of_layer(layer)
    assert found.labels == in_memory.labels == (-5, 3, 7, 20_000)
    for name in ("information", "lower", "upper", "quality"):
        assert getattr(found, name) == pytest.approx(getattr(in_memory, name))
    for one, other in zip(found.measures, in_memory.measures, strict=True):
        for what, value in dataclasses.asdict(other).items():
            exact = not isinstance(value, float)
            assert getattr(one, what) == (value if exact else pytest.approx(value, rel=1e-12))
    if whole is not None:
        assert found.information == estimate_mutual_information(whole).value


def test_mutual_information_beyond_the_limit(layer, expected, little_memory):
    for estimator in ("plugin", "chao-wang-jost"):
        assert mutual_information(layer.counted_by(), estimator) == pytest.approx(
            mutual_information(expected.by_label, estimator), rel=1e-12
        )


def test_groups_of_another_kind_are_not_merged(layer, expected, little_memory):
    found = layer.counted_groups(8)
    with pytest.raises(ValueError, match="cannot merge 8 groups with 4 groups"):
        found.merge(ts.StoredGroups(found.parts[:4], found.sample))
    with pytest.raises(TypeError, match="others must be StoredGroups or GroupedCounts, got int"):
        found.merge(3)
    with pytest.raises(TypeError, match="others must be GroupedCounts, got StoredGroups"):
        expected.by_group.merge(found)


def test_groups_on_disk_merge_with_groups_in_memory(layer, expected, little_memory):
    found, added = layer.counted_groups(8), expected.by_group
    both = found.merge(added, found)
    assert isinstance(both, ts.StoredGroups)
    assert both.sample == found.sample.merge(added.sample).merge(found.sample)
    assert [part.load() for part in both.parts] == [part + part + part for part in added.parts]
    with pytest.raises(ValueError, match="cannot merge 8 groups with 4 groups"):
        found.merge(ts.GroupedCounts(added.parts[:4], [1] * 4))


def test_information_of_labels_on_disk_and_in_memory(layer, expected, little_memory):
    on_disk = layer.counted_groups_by(groups=8)
    exact = estimate_mutual_information(expected.by_both)
    for place in (0, 1):  # whichever comes first
        mixed = {
            label: groups if number % 2 == place else groups.load()
            for number, (label, groups) in enumerate(on_disk.items())
        }
        found = estimate_mutual_information(mixed)
        assert found.value == pytest.approx(exact.value, rel=1e-12)
        assert found.sample == exact.sample


def test_counts_in_temporary_files_say_how_they_can_be_kept(layer, little_memory):
    for found in (
        layer.counted_by()[7],
        layer.counted_groups(8),
        layer.counted_groups_by(groups=8),
    ):
        with pytest.raises(TypeError, match=r"save\(path\) writes .*, and load\(\) reads"):
            pickle.dumps(found)


def test_ranks_with_more_than_memory_are_told_of_stores(tmp_path, little_memory):
    ts.set_memory_limit(BUDGET // 4)  # without labels and groups, the counts are smaller

    def sync(ranks):
        with ts.Store(tmp_path / f"{ranks.rank}.zarr", "x") as store:
            point = new_point(store, neurons=20, keep="counts")
            point.append(ROWS, len(ROWS))
            return ts.Run([point]).sync(ranks)

    for error in on_ranks(2, sync):
        assert "a store (storage_path=), and read all of them as one by open_stores()" in str(error)


def test_reading_each_label_and_group_decodes_each_byte_once_or_twice(
    layer, little_memory, monkeypatch
):
    decoded, written, read, of = [], [], ScratchRun.read, ScratchRun.of.__func__
    monkeypatch.setattr(
        ScratchRun, "of", classmethod(lambda *a: written.append(of(*a)) or written[-1])
    )
    found = layer.counted_groups_by(groups=8)
    size = sum(written[-1].sizes)

    def watched(run, first, last):
        decoded.append(sum(run.sizes[first:last]))
        return read(run, first, last)

    monkeypatch.setattr(ScratchRun, "read", watched)
    ts.set_memory_limit(None)
    for each in found.values():
        each.load()
    assert size <= sum(decoded) <= 2 * size


def test_groups_of_all_labels_are_counted_in_the_share_of_reading(monkeypatch):
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    monkeypatch.setattr(run_counters.RunCounters, "_budget", BUDGET)
    kept, budgets = kept_counters.KeptCounters(3, 8), []
    kept.add(ROWS, LABELS, np.arange(4000) % 8)
    ts.set_memory_limit(BUDGET // 2)
    new = run_counters.ExternalCounter
    monkeypatch.setattr(
        run_counters, "ExternalCounter", lambda *given: budgets.append(given[1]) or new(*given)
    )
    kept.counted_by_group(20, by_label=False)
    assert budgets == [working_memory() // 8]


@pytest.mark.parametrize("read", ["counted", "counted_by", "counted_by_group"])
def test_a_read_sorts_what_is_in_memory_once(read, monkeypatch):
    kept, sorts = kept_counters.KeptCounters(3, 8), []
    kept.add(ROWS, LABELS, np.arange(4000) % 8)
    (counter,) = kept._counters.values()
    runs = counter.runs
    monkeypatch.setattr(counter, "runs", lambda: sorts.append(1) or runs())
    getattr(kept, read)(20, **({"by_label": True} if read == "counted_by_group" else {}))
    assert len(sorts) == 1


def test_results_on_disk_hold_no_rows_in_memory(layer, little_memory):
    found = [*layer.counted_by().values(), *layer.counted_groups(8).parts]
    assert held_in_memory(found) == 0
    for each in layer.counted_groups_by(groups=8).values():
        assert held_in_memory(each.parts) == 0


def held_in_memory(found):
    """The bytes of the rows that runs in memory keep, which are below those of counts."""
    waiting, held = [run for each in found for run in each._runs], 0
    while waiting:
        run = waiting.pop()
        held += run._rows.nbytes if isinstance(run, MemoryRun) else 0
        names = getattr(run, "__slots__", None) or vars(run)
        waiting += [part for name in names if hasattr(part := getattr(run, name), "fences")]
    return held


def test_a_block_takes_few_bytes_of_memory():
    """There is at least one for each label and group."""
    rows, blocks = rows_of(3, neurons=96), 5000
    ones = np.ones(len(rows), np.int64)
    ScratchRun.of(12, [(rows, ones)])  # what is loaded and compiled at first
    tracemalloc.start()
    try:
        run = ScratchRun.of(12, ((rows, ones) for _ in range(blocks)))
        of_blocks = tracemalloc.get_traced_memory()[0]
        results = [RowsBehindPrefix(run, block, block + 1, 8) for block in range(blocks)]
        of_results = tracemalloc.get_traced_memory()[0] - of_blocks
    finally:
        tracemalloc.stop()
    assert len(results) == len(run.sizes) == blocks
    assert of_blocks < 100 * blocks
    assert of_results < 150 * blocks


def test_a_look_up_behind_a_prefix_reads_few_of_its_fences():
    blocks, looked_up = 1 << 14, []

    class Fences(list):
        def __getitem__(self, place):
            looked_up.extend(range(*place.indices(blocks)) if isinstance(place, slice) else [place])
            return super().__getitem__(place)

    run = ScratchRun(12)
    run.fences = Fences(b"head" + number.to_bytes(8, "big") for number in range(0, 2 * blocks, 2))
    behind = RowsBehindPrefix(run, 1, blocks, 8)
    low, high = (number.to_bytes(8, "big") for number in (1001, 2000))
    assert blocks_between(behind, low, high) == slice(499, 999)
    assert len(looked_up) < 40
    assert behind.fences[:2] == [number.to_bytes(8, "big") for number in (2, 4)]
    assert [*behind.fences] == behind.fences[:]
    assert behind.fences[-1] == (2 * blocks - 2).to_bytes(8, "big")
