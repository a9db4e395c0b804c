"""Layers of which a store keeps counts: committed, resumed, merged, read; what they refuse."""

import copy
import os
import pickle
from itertools import pairwise

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu.errors import RowsNotKept, StoreClosed
from tests.support.points import new_point, rows_of

ROWS = rows_of(3000, neurons=12)  # of at most 4,096 states
LABELS = np.arange(3000) // 7 % 5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.zarr"


def counting_point(store, **options):
    return new_point(store, neurons=12, keep="counts", **options)


def append(point, start, stop, *, labelled=False):
    labels = LABELS[start:stop] if labelled else None
    point.append(ROWS[start:stop], stop - start, labels, LABELS[start:stop] if labelled else None)


def counts_of(rows):
    return ts.count_states(rows, 12)


def test_counts_are_those_of_the_rows_whenever_they_are_committed_and_read(path):
    done = 0
    for program in range(4):
        with ts.Store(path, "a", commit_seconds=None) as store:
            point = counting_point(store)
            assert (point.instance_count, point.state_count) == (done, done)
            for k in range(5):
                append(point, done, done + 150)
                done += 150
                if k % 2 == program % 2:
                    store.commit()
                    assert ts.Store(path)["layer"].histogram() == counts_of(ROWS[:done])
                assert point.histogram() == counts_of(ROWS[:done])
    layer = ts.Store(path)["layer"]
    assert layer.histogram() == counts_of(ROWS)
    assert layer.entropy() == counts_of(ROWS).entropy()
    np.testing.assert_array_equal(layer.counts(), counts_of(ROWS).counts)
    assert layer.histogram(to=path.with_name("counts.zarr")).load() == counts_of(ROWS)
    assert sum(run.total for run in layer.committed.counts.runs) == len(layer) == 3000
    assert (layer.instance_count, layer.states_per_instance()) == (3000, 1)


def test_layers_of_a_model(path):
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3))
    data = torch.randn(60, 4)
    with ts.capture(model, "Linear", keep="counts") as expected:
        model(data)
    for part in (data[:25], data[25:]):
        with (
            ts.Store(path, "a") as store,
            ts.capture(model, "Linear", keep="counts", storage_path=store) as run,
        ):
            model(part)
    assert run.instance_count == 60
    for name, point in expected.items():
        assert run[name].histogram() == point.histogram() == ts.Store(path)[name].histogram()
    assert str(ts.Store(path).report()) == str(expected.report())


@pytest.mark.parametrize("groups", [None, 4])
def test_labels_and_groups(groups, path):
    """The first program has labels, the second also a new one; unlabelled rows come last."""
    expected = counting_point(None, groups=groups)
    for start, stop in ((0, 900), (900, 3000)):
        with ts.Store(path, "a", commit_seconds=None) as store:
            point = counting_point(store, groups=groups)
            for first in range(start, stop, 300):
                for each in (point, expected):
                    append(each, first, first + 300, labelled=True)
                store.commit()
    layer = ts.Store(path)["layer"]
    assert layer.counts_by() == expected.counts_by()
    assert layer.histogram() == counts_of(ROWS)
    assert ts.Store(path).info()["layers"][0]["labels"] == 3000
    if groups:
        assert layer.grouped() == expected.grouped()
        assert layer.grouped_by() == expected.grouped_by()
        assert layer.estimate() == expected.estimate()
    with ts.Store(path, "a", commit_seconds=None) as store:
        point = counting_point(store, groups=groups)
        assert point.counts_by() == expected.counts_by()
        append(point, 0, 10)
    layer = ts.Store(path)["layer"]
    assert layer.histogram() == counts_of(np.concatenate([ROWS, ROWS[:10]]))
    with pytest.raises(ValueError, match="10 of 3010 instances were captured without labels"):
        layer.counts_by()


def test_runs_are_few_and_files_of_merged_ones_go(path):
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = counting_point(store)
        for first in range(0, 3000, 75):
            append(point, first, first + 75)
            store.commit()
            runs = store.record.layers["layer"].counts.runs
            sizes = [run.arrays["states"].rows for run in runs]
            assert all(one > two for one, two in pairwise(sizes)), sizes
            assert len(runs) <= 8
    found = ts.Store(path).verify()
    assert (found.problems, found.orphans, found.rows) == ([], [], 3000)


def test_a_reader_goes_on_while_the_next_commit_merges_what_it_reads(path):
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = counting_point(store)
        for first in range(0, 400, 100):
            append(point, first, first + 100)
            store.commit()
        before, reader = store.record.layers["layer"].counts.runs, ts.Store(path)["layer"]
        append(point, 400, 1000)
        store.commit()
        assert not {run.number for run in before} & {
            run.number for run in store.record.layers["layer"].counts.runs
        }
        assert reader.histogram() == counts_of(ROWS[:400])


@pytest.mark.parametrize("has_read_fences", [False, True])
def test_a_reader_that_merges_have_left_behind_is_told_to_open_the_store_again(
    has_read_fences, path
):
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = counting_point(store)
        append(point, 0, 100)
        store.commit()
        late = ts.Store(path)["layer"]
        if has_read_fences:
            late._open_accumulator()
        for first in range(100, 1000, 300):
            append(point, first, first + 300)
            store.commit()
        with pytest.raises(ts.errors.DamagedStore, match="is missing") as raised:
            late.histogram()
        assert "has merged this into another file" in raised.value.__notes__[0]
        assert ts.Store(path)["layer"].histogram() == counts_of(ROWS[:1000])


def test_what_needs_rows_says_that_the_store_keeps_counts(path):
    with ts.Store(path, "x") as store:
        append(counting_point(store), 0, 100, labelled=True)
    layer = ts.Store(path)["layer"]
    for read in (
        lambda: layer[:3],
        lambda: np.asarray(layer),
        layer.labels,
        layer.units,
        layer.chunks,
        layer.snapshot,
        lambda: layer.raw_states,
        lambda: layer.histogram([0]),
        layer.to_arrow,
        lambda: layer.to_parquet(path.with_name("rows.parquet")),
    ):
        with pytest.raises(RowsNotKept, match=r"run.zarr: 'layer' keeps counts only"):
            read()
    with pytest.raises(RowsNotKept, match="give labels during capture"):
        layer.counts_by([0] * 100)
    with pytest.raises(RowsNotKept, match="groups=32"):
        layer.grouped()


def test_a_layer_goes_on_as_it_began(path):
    with ts.Store(path, "x") as store:
        append(counting_point(store, groups=4), 0, 10)
        append(new_point(store, "rows", neurons=12), 0, 10)
    for name, options, message in (
        ("layer", {}, 'keep="counts", not keep="states"'),
        ("rows", {"keep": "counts"}, 'keep="states", not keep="counts"'),
        ("layer", {"keep": "counts", "groups": 8}, "groups=4, not groups=8"),
        ("layer", {"keep": "counts"}, "groups=4, not groups=None"),
    ):
        with ts.Store(path, "a") as store, pytest.raises(ValueError, match=message):
            new_point(store, name, neurons=12, **options)
    with pytest.raises(ValueError, match="compressor is for"):
        ts.CapturePoint("layer", "memory://x", keep="counts", compressor=object())


def test_stores_of_counts_have_a_format_of_their_own(path):
    for keep, number in (("states", 3), ("counts", 4)):
        where = path.with_name(keep)
        with ts.Store(where, "x") as store:
            append(new_point(store, neurons=12, keep=keep), 0, 10)
        assert ts.Store(where).record.format == number


def test_a_store_that_keeps_counts_is_rewound_to_what_it_has_only(path):
    with ts.Store(path, "x") as store:
        append(counting_point(store), 0, 100)
        store.rewind(100)
        with pytest.raises(RowsNotKept, match="cannot be rewound to 99"):
            store.rewind(99)
    assert ts.Store(path)["layer"].histogram() == counts_of(ROWS[:100])


@pytest.mark.parametrize("options", [{}, {"groups": 4}, {"labelled": True}])
@pytest.mark.parametrize("stored", [False, True])
def test_counts_are_saved(stored, options, path):
    labelled, groups = "labelled" in options, options.get("groups")
    point = counting_point(path.with_name("other") if stored else None, groups=groups)
    for first in range(0, 3000, 500):
        append(point, first, first + 500, labelled=labelled)
    run, told = ts.Run([point, rows := new_point(None, "rows", neurons=12)]), []
    append(rows, 0, 100)
    run.save(path, progress=lambda *amounts: told.append(amounts))
    assert told[-1] == (3100, 3100)
    saved = ts.Store(path)
    assert saved.closed
    assert saved.verify().problems == saved.verify().orphans == []
    layer = saved["layer"]
    assert layer.histogram() == point.histogram() == counts_of(ROWS)
    assert (layer.instance_count, layer.keeps_counts) == (3000, True)
    np.testing.assert_array_equal(saved["rows"][:], ROWS[:100])
    if labelled:
        assert layer.counts_by() == point.counts_by()
    if groups:
        assert layer.grouped() == point.grouped()
    with ts.Store(path, "a") as store:  # goes on
        again = counting_point(store, groups=groups)
        append(again, 0, 10, labelled=labelled)
        assert again.instance_count == 3010
    run.close()


# ---- passes that break -------------------------------------------------------------------------


@pytest.mark.parametrize("committed_within", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_a_pass_that_an_exception_ends_is_taken_back(committed_within, labelled, path):
    def program():
        with ts.Store(path, "a", commit_seconds=None) as store:
            points = [counting_point(store, name=name) for name in "ab"]
            for k in range(3):
                for point in points:
                    if (k, point.name) == (2, "b"):
                        raise RuntimeError("the program")
                    append(point, 100 * k, 100 * k + 100, labelled=labelled)
                    if committed_within and k == 2:
                        store.session.flush()

    with pytest.raises(RuntimeError, match="the program"):
        program()
    for layer in ts.Store(path).efficiency_layers:
        assert layer.instance_count == 200
        assert layer.histogram() == counts_of(ROWS[:200])
    assert ts.Store(path).verify().problems == ts.Store(path).verify().orphans == []


def test_the_first_pass_is_taken_back_after_a_commit_within_it(path):
    def program():
        with ts.Store(path, "a", commit_seconds=None) as store:
            points = [counting_point(store, name=name) for name in "ab"]
            append(points[0], 0, 100)
            store.session.flush()
            raise RuntimeError("the program")

    with pytest.raises(RuntimeError, match="the program"):
        program()
    layer = ts.Store(path)["a"]
    assert (layer.instance_count, layer.state_count, layer.committed.counts.runs) == (0, 0, ())
    assert ts.Store(path).verify().orphans == []


# ---- copies, resets, forks ---------------------------------------------------------------------


def test_copies_and_pickles_read_what_is_committed(path):
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = counting_point(store)
        append(point, 0, 100)
        twin = copy.deepcopy(point)
        append(point, 100, 200)
        assert twin.histogram() == counts_of(ROWS[:100])
        with pytest.raises(StoreClosed):
            append(twin, 0, 1)
    layer = pickle.loads(pickle.dumps(ts.Store(path)["layer"]))
    assert layer.histogram() == counts_of(ROWS[:200])


def test_reset_states_deletes_all_files_of_the_layer(path):
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = counting_point(store)
        append(point, 0, 100)
        store.commit()
        point.reset_states()
        assert not (path / "layer").exists()
        point.declare(12, 1)
        append(point, 5, 25)
        assert point.histogram() == counts_of(ROWS[5:25])
    assert ts.Store(path)["layer"].histogram() == counts_of(ROWS[5:25])
    assert ts.Store(path).verify().orphans == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_reads_and_adds_nothing(path):
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = counting_point(store)
        append(point, 0, 100)
        store.commit()
        append(point, 100, 200)
        child = os.fork()
        if child == 0:
            same = point.histogram() == counts_of(ROWS[:200])
            try:
                append(point, 200, 300)
            except StoreClosed:
                os._exit(0 if same else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
    assert ts.Store(path)["layer"].histogram() == counts_of(ROWS[:200])


# ---- little memory -----------------------------------------------------------------------------


def test_counts_beyond_the_budget_continue_in_files(path, monkeypatch):
    from tensorstate_gpu._layers.kept_counters import KeptCounters

    monkeypatch.setattr(KeptCounters, "_budget", 1 << 16)
    rows = rows_of(40_000, neurons=40)
    expected = ts.count_states(rows, 40)
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = new_point(store, neurons=40, keep="counts")
        for k, part in enumerate(np.array_split(rows, 40)):
            point.append(part, len(part))
            if k == 19:
                store.commit()
        counters = point.intake.accumulator.kept
        assert any(each.has_spilled for each in counters._counters.values())
        assert point.histogram() == expected
    assert ts.Store(path)["layer"].histogram() == expected


def test_layers_share_the_memory_from_the_first_batch_on(path):
    with ts.Store(path, "x", commit_seconds=None) as store:
        points = [counting_point(store, name=name) for name in "abcd"]
        for point in points:
            append(point, 0, 100)
        counters = [point.intake.accumulator.kept._counters.values() for point in points]
        assert sum(each._budget for (each,) in counters) <= working_memory()
