"""Run.sync() with labels: ranks, here threads, against one process with all inputs."""

import dataclasses
import threading

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tests.support.points import new_point, rows_of
from tests.support.rank_points import (
    FIELDS,
    PARTS,
    chain_of,
    point_of,
    synchronised,
)
from tests.support.thread_ranks import on_ranks, ranks_are_given  # noqa: F401


def test_tables_by_label_are_those_of_one_process():
    def tables(ranks):
        run = ts.Run(
            [point_of(PARTS[ranks.rank], labels=True, keep="counts"), ts.CapturePoint("unused")]
        )
        return run.sync(ranks).report(by_label=True).by_label

    [exact] = (
        ts.Run([point_of(range(40), labels=True, keep="counts")]).report(by_label=True).by_label
    )
    for [found] in on_ranks(4, tables):
        assert (found.layer, found.labels) == (exact.layer, exact.labels)
        assert str(found) == without_comparison(exact)
        assert found.information == pytest.approx(exact.information)
        assert found.quality == exact.quality


def without_comparison(table):
    """The text of a table, without what says why labels are not compared: of ranks, none are."""
    return str(dataclasses.replace(table, not_compared=None))


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 32}], ids=str)
def test_estimates_of_each_label_are_those_of_one_process(options):
    """Units decide the groups; a rank has no inputs, and another lacks a label."""
    parts = [range(90), range(0), range(90, 198), range(198, 200)]

    def measured(ranks):
        point = chain_of(parts[ranks.rank], 3, labels=True, **options)
        found = ts.Run([point]).sync(ranks)
        by_label = {label: each.gather(1) for label, each in found["layer"].grouped_by().items()}
        estimates = {label: each.estimate() for label, each in found["layer"].grouped_by().items()}
        return estimates, by_label, found.report(by_label=True).by_label

    whole = chain_of(range(200), 3, labels=True, **options)
    exact = whole.grouped_by()
    [table] = ts.Run([whole]).report(by_label=True).by_label
    found = on_ranks(4, measured)
    assert found[1][1] == exact
    for estimates, _, [of_ranks] in found:
        assert list(estimates) == list(exact)
        for label, groups in exact.items():
            for field in FIELDS:
                value = getattr(groups.estimate(), field)
                assert getattr(estimates[label], field) == pytest.approx(value, rel=1e-12), field
        assert str(of_ranks) == without_comparison(table)
        assert (of_ranks.lower, of_ranks.upper) == pytest.approx((table.lower, table.upper))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labels": True, "keep": "counts"}, ts.errors.RowsNotKept),
        ({"keep": "counts", "groups": 8}, ts.errors.LabelsMissing),
    ],
    ids=str,
)
def test_groups_of_labels_need_both(options, error):
    found, _ = synchronised(lambda part: point_of(part, **options))
    with pytest.raises(error):
        found[0]["layer"].grouped_by()


def test_layers_without_labels_say_so_in_the_report_of_ranks():
    def tables(ranks):
        run = ts.Run([point_of(PARTS[ranks.rank], labels=ranks.rank == 0)])
        return run.sync(ranks).report(by_label=True).by_label

    for [found] in on_ranks(4, tables):
        assert found.missing == "on some ranks, inputs were captured without a label"


def test_labels_that_a_rank_lacks_are_left_out():
    def sync(ranks):
        run = ts.Run([point_of(PARTS[ranks.rank], labels=ranks.rank == 0)])
        return run.sync(ranks)["layer"]

    for layer in on_ranks(4, sync):
        assert layer.state_count == 80
        with pytest.raises(ts.errors.LabelsMissing):
            layer.counts_by()


def test_labels_of_one_rank_alone():
    labels = [["cat"], ["dog", "eel"], []]

    def sync(ranks):
        point = new_point(neurons=5)
        own = labels[ranks.rank]
        if own:
            point.append(rows_of(len(own), neurons=5), len(own), labels=own)
        by_label = ts.Run([point]).sync(ranks)["layer"].counts_by()
        return {label: counts.total for label, counts in by_label.items()}

    assert on_ranks(3, sync) == [{"cat": 1, "dog": 1, "eel": 1}] * 3


def test_information_of_all_ranks_has_an_estimate_of_its_own():
    runs, whole = synchronised(lambda part: point_of(part, labels=True, units=True))
    layer, by_label = runs[0]["layer"], whole.grouped_by()
    with pytest.raises(
        TypeError, match=r"layer.grouped\(\).estimate_information\(layer.grouped_by"
    ):
        ts.information.estimate_mutual_information(layer.grouped_by())
    found = layer.grouped().estimate_information(layer.grouped_by())
    assert found.value == pytest.approx(ts.information.estimate_mutual_information(by_label).value)


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 8}], ids=str)
def test_inputs_without_rows_belong_to_the_sample(options):
    """A layer has no rows of one label, and of half of another on one rank."""

    def points(inputs):
        layers = [new_point(name=name, neurons=5, **options) for name in ("all", "some")]
        rows = rows_of(40, neurons=5)
        for layer in layers:
            for number in inputs:
                skipped = layer.name == "some" and (number % 3 == 2 or number < 10)
                own = rows[:0] if skipped else rows[number : number + 1]
                layer.append(own, 1, labels=[number % 3], units=[number])
        return layers

    def merged(ranks):
        run = ts.Run(points(range(20 * ranks.rank, 20 * ranks.rank + 20))).sync(ranks)
        every, some = run.values()
        of_layers = [layer.estimate("efficiency") for layer in (every, some)]
        network = ts.information.estimate_network_efficiency(of_layers)
        return (
            some.grouped().gather(),
            {k: g.gather() for k, g in some.grouped_by().items()},
            network,
        )

    (grouped, by_label, network), (_, _, same) = on_ranks(2, merged)
    every, some = points(range(40))
    assert (grouped, by_label) == (some.grouped(), some.grouped_by())
    of_layers = [layer.estimate("efficiency") for layer in (every, some)]
    exact = ts.information.estimate_network_efficiency(of_layers)
    assert (network.value, same.value) == (pytest.approx(exact.value), network.value)


@pytest.mark.parametrize("short", [0, 2])
def test_a_rank_without_memory_for_labels_and_groups_together(short, monkeypatch):
    """Nothing is lost: all ranks merge each of them alone."""
    whole = point_of(range(40), labels=True)
    by_both = RowsAccumulator.counted_groups_by_label

    def without_memory(accumulator, *arguments, **options):
        if accumulator.ledger.count == len(PARTS[short]):
            raise MemoryError
        return by_both(accumulator, *arguments, **options)

    monkeypatch.setattr(RowsAccumulator, "counted_groups_by_label", without_memory)
    runs, _ = synchronised(lambda inputs: point_of(inputs, labels=True))
    layer = runs[0]["layer"]
    assert layer.histogram().total == whole.state_count
    assert {label: each.total for label, each in layer.counts_by().items()} == {
        label: each.total for label, each in whole.counts_by().items()
    }
    with pytest.raises(ts.errors.RowsNotKept, match="no memory for counts by label and group"):
        layer.grouped_by()


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 8}], ids=str)
@pytest.mark.parametrize("labels", [True, False])
def test_a_rank_whose_inputs_have_no_rows_belongs_to_the_sample(options, labels):
    """A layer that sees a part of each input, such as an expert, may see nothing of all of them."""

    def point(inputs):
        layer = new_point(neurons=5, **options)
        rows = rows_of(40, neurons=5)
        for number in inputs:
            own = rows[number : number + int(number < 20)]
            layer.append(own, 1, labels=[number % 3] if labels else None, units=[number])
        return layer

    def merged(ranks):
        run = ts.Run([point(range(20 * ranks.rank, 20 * ranks.rank + 20))]).sync(ranks)
        layer = run["layer"]
        by_label = {k: g.gather() for k, g in layer.grouped_by().items()} if labels else None
        return layer.grouped().gather(), by_label, layer.instance_count, layer.estimate().sample

    whole = point(range(40))
    (grouped, by_label, inputs, sample), (*_, same) = on_ranks(2, merged)
    assert (grouped, inputs) == (whole.grouped(), 40)
    assert by_label == (whole.grouped_by() if labels else None)
    assert sample == same == whole.estimate().sample


def test_inputs_without_rows_must_have_labels_too():
    def merged(ranks):
        layer = new_point(neurons=5)
        rows = rows_of(4, neurons=5)[: 4 - 4 * ranks.rank]
        layer.append(rows, 4, labels=None if ranks.rank else [0, 0, 1, 1])
        return ts.Run([layer]).sync(ranks)["layer"]

    for layer in on_ranks(2, merged):
        with pytest.raises(ts.errors.LabelsMissing, match="on some ranks"):
            layer.counts_by()


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 8}], ids=str)
def test_rows_that_arrive_meanwhile_are_in_all_counts_or_in_none(options, monkeypatch):
    """A batch of another thread comes between two readings of the layer, if it can."""
    point = point_of(range(9), labels=True, **options)
    kind = type(point.intake.accumulator)
    appending = threading.Thread(
        target=lambda: point.append(rows_of(2, neurons=5), 1, labels=[7], units=None)
    )
    by_both, read_lock = kind.counted_groups_by_label, ts.CapturePoint._read_lock

    def while_one_comes(accumulator, *arguments, **keywords):
        appending.start()
        return by_both(accumulator, *arguments, **keywords)

    def after_it(point):
        if appending.is_alive():
            appending.join(0.1)
        return read_lock(point)

    monkeypatch.setattr(kind, "counted_groups_by_label", while_one_comes)
    monkeypatch.setattr(ts.CapturePoint, "_read_lock", after_it)
    [run] = on_ranks(1, lambda ranks: ts.Run([point]).sync(ranks))
    appending.join()
    layer = run["layer"]
    assert (layer.state_count, layer.instance_count) == (18, 9)
    assert layer.grouped().sample.number == 9
    assert list(layer.counts_by()) == list(layer.grouped_by()) == [0, 1, 2]
    assert point.state_count == 20
