"""Run.sync(): capture points of ranks, here threads, against one process with all inputs."""

import dataclasses

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing import run as run_module
from tensorstate_gpu._states import grouped_counts
from tests.support.points import new_point, rows_of
from tests.support.thread_ranks import on_ranks

OPTIONS = [{"keep": "states"}, {"keep": "counts"}, {"keep": "counts", "groups": 8}]


@pytest.fixture(autouse=True)
def ranks_are_given(monkeypatch):
    """process_group= of sync() is the ranks themselves."""
    for module in (run_module, grouped_counts):
        monkeypatch.setattr(module, "ranks_of", lambda ranks: ranks)


def point_of(inputs, name="layer", labels=False, units=False, **options):
    """A capture point with some of the same 40 inputs, two states each."""
    point = new_point(name=name, neurons=5, **options)
    rows = rows_of(80, neurons=5).reshape(40, 2, -1)
    for number in inputs:
        point.append(
            rows[number],
            1,
            labels=[number % 3] if labels else None,
            units=[f"clip {number // 2}"] if units else None,
        )
    return point


PARTS = [range(25), range(0), range(25, 38), range(38, 40)]  # uneven, and a rank without inputs


def synchronised(make, parts=PARTS):
    """What sync() returns on each rank, and the run of one process with all inputs."""
    found = on_ranks(len(parts), lambda ranks: ts.Run([make(parts[ranks.rank])]).sync(ranks))
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found, make([number for part in parts for number in part])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("labels", [False, True])
def test_all_ranks_have_the_counts_of_one_process(options, labels):
    found, whole = synchronised(lambda part: point_of(part, labels=labels, **options))
    for run in found:
        layer = run["layer"]
        assert layer.entropy() == pytest.approx(whole.entropy(), rel=1e-14)
        assert layer.efficiency(2) == pytest.approx(whole.efficiency(2), rel=1e-14)
        assert run.network_efficiency() == pytest.approx(whole.efficiency(), rel=1e-14)
        assert (layer.state_count, layer.neurons) == (80, 5)
        assert list(run) == ["layer"]
        assert repr(run) == "RankRun(1 layer, 80 states, 4 ranks)"
        if not labels:
            with pytest.raises(ts.errors.LabelsMissing, match="without a label"):
                layer.counts_by()
            continue
        exact = whole.counts_by()
        assert list(layer.counts_by()) == list(exact)
        for label, counts in layer.counts_by().items():
            assert counts.entropy() == pytest.approx(exact[label].entropy(), rel=1e-14)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gathered_states_are_those_of_one_process(options):
    def gather(ranks):
        run = ts.Run([point_of(PARTS[ranks.rank], labels=True, units=True, **options)])
        layer = run.sync(ranks)["layer"]
        labelled = {label: part.gather(2) for label, part in layer.counts_by().items()}
        grouped = layer.grouped().gather(2) if options != {"keep": "counts"} else None
        return layer.histogram().gather(2), labelled, grouped

    found = on_ranks(4, gather)
    assert found[0] == (None, {0: None, 1: None, 2: None}, None)
    whole = point_of(range(40), labels=True, units=True, **options)
    histogram, labelled, grouped = found[2]
    assert histogram == whole.histogram()
    assert labelled == whole.counts_by()
    if options == {"keep": "counts"}:
        return
    assert grouped == whole.grouped()  # units decide the groups, so ranks do not change them
    assert grouped.estimate().value == whole.estimate().value


def test_counts_without_groups_have_none():
    found, _ = synchronised(lambda part: point_of(part, keep="counts"))
    with pytest.raises(ts.errors.RowsNotKept, match="groups=32"):
        found[0]["layer"].grouped()


def units_of(inputs, **options):
    """The capture point with units, which decide the groups, so that ranks do not change them."""
    return point_of(inputs, units=True, **options)


def chain_of(inputs, neurons, labels=False, **options):
    """A capture point whose neurons depend on each other.

    The states of 30 of them are seldom seen twice, so the upper bound is by a dependence tree.
    """
    flips = np.random.default_rng(3).random((400, neurons)) < 0.1
    bits = np.logical_xor.accumulate(flips, axis=1)
    packed = np.packbits(bits, axis=1, bitorder="little").reshape(200, 2, -1)
    point = new_point(name="layer", neurons=neurons, **options)
    for number in inputs:
        point.append(packed[number], 1, labels=[number % 3] if labels else None, units=[number])
    return point


CHAIN_PARTS = [range(90), range(0), range(90, 150), range(150, 200)]
FIELDS = ("value", "plugin", "plugin_of_half", "lower", "upper", "coverage", "standard_error")


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 32}], ids=str)
@pytest.mark.parametrize(("neurons", "how"), [(30, "dependence tree"), (3, "interval")])
@pytest.mark.parametrize("measure", ["entropy", "efficiency"])
def test_estimates_are_those_of_one_process(options, neurons, how, measure):
    def estimate(ranks):
        run = ts.Run([chain_of(CHAIN_PARTS[ranks.rank], neurons, **options)]).sync(ranks)
        return run["layer"].estimate(measure)  # after all exchange: by each rank alone

    exact = chain_of(range(200), neurons, **options).estimate(measure)
    assert exact.how[1] == how
    for found in on_ranks(4, estimate):
        for field in FIELDS:
            assert getattr(found, field) == pytest.approx(getattr(exact, field), rel=1e-12)
        assert (found.how, found.rows, found.sample) == (exact.how, exact.rows, exact.sample)
        assert found.design_effect == pytest.approx(exact.design_effect, rel=1e-9)


def test_estimates_without_states_or_groups():
    def errors(ranks):
        run = ts.Run([point_of(range(0)), point_of(range(3), name="counted", keep="counts")])
        merged = run.sync(ranks)
        with pytest.raises(ts.errors.NothingCaptured):
            merged["layer"].estimate()
        with pytest.raises(ts.errors.RowsNotKept):
            merged["counted"].estimate()
        empty = ts.GroupedCounts([ts.StateCounts.empty(3)] * 2, [0, 0])
        with pytest.raises(ValueError, match="no rows"):
            empty.merge_ranks(ranks).estimate()

    assert on_ranks(2, errors) == [None, None]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_report_is_that_of_one_process(options):
    def report(ranks):
        points = [units_of(PARTS[ranks.rank], **options), ts.CapturePoint("unused")]
        return ts.Run(points).sync(ranks).report(accuracy=0.9)

    whole = ts.Run([units_of(range(40), **options), ts.CapturePoint("unused")])
    exact = whole.report(accuracy=0.9)
    for found in on_ranks(4, report):
        for ours, expected in zip(found.layers, exact.layers, strict=True):
            for name, value in dataclasses.asdict(expected).items():
                if isinstance(value, float):
                    value = pytest.approx(value, rel=1e-12)
                assert getattr(ours, name) == value, name
        assert found.network_efficiency == pytest.approx(exact.network_efficiency)
        assert found.aiq_range == (exact.aiq_range and pytest.approx(exact.aiq_range))
        assert (found.missing, found.quality) == (exact.missing, exact.quality)
        assert found.profiles[0].firing.tolist() == exact.profiles[0].firing.tolist()
        assert (found.ranks, exact.ranks) == (4, None)
        assert ("states of", "4 ranks") in found.summary()


def test_a_report_tells_what_ranks_know_of_a_layer():
    """That it never fires, or always does; and that it has seen other inputs than the others."""

    def report(ranks):
        points = [new_point(name=name, neurons=8) for name in ("silent", "firing")]
        for point, byte in zip(points, (0, 255), strict=True):
            point.append(np.full((6, 1), byte, np.uint8), 6)
        return ts.Run([*points, point_of(range(7))]).sync(ranks).report(include_out_of_step=True)

    for found in on_ranks(2, report):
        assert found["silent"].why_constant() == "never fires"
        assert found["firing"].why_constant().startswith("all neurons always fire")
        assert (found["silent"].inputs, found["layer"].inputs) == (12, 14)
        assert found.out_of_step == ("layer",)
        assert found.network_efficiency == 0


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
        assert str(found) == str(exact)
        assert found.information == pytest.approx(exact.information)
        assert found.quality == exact.quality


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
        assert str(of_ranks) == str(table)
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


def test_a_run_of_ranks_is_a_table_in_notebooks():
    def html(ranks):
        return (
            ts.Run([point_of(range(4))]).sync(ranks)._repr_html_(),
            ts.Run([point_of(range(0))]).sync(ranks)._repr_html_(),
        )

    [(table, names)] = on_ranks(1, html)
    assert "network efficiency" in table
    assert "<td>layer</td>" in names


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


def test_layers_keep_their_order_and_other_names():
    def sync(ranks):
        points = [point_of(PARTS[ranks.rank], name=f"{name}_post_states") for name in "ba"]
        points[0].answer_to(["tied_post_states"])
        run = ts.Run(points).sync(ranks)
        assert run["tied"] is run["b"]
        return list(run)

    assert on_ranks(4, sync) == [["b_post_states", "a_post_states"]] * 4


def test_a_layer_that_no_rank_has_captured():
    def sync(ranks):
        points = [point_of(PARTS[ranks.rank], name="used"), ts.CapturePoint("unused")]
        return ts.Run(points).sync(ranks)

    for run in on_ranks(4, sync):
        assert run["unused"].neurons is None
        with pytest.raises(ts.errors.NothingCaptured, match="unused: nothing captured, on no rank"):
            run["unused"].entropy()
        with pytest.warns(UserWarning, match="nothing was captured of unused"):
            assert run.network_efficiency() == run["used"].efficiency()


def test_later_calls_appear_where_the_model_ran():
    """A rank without inputs does not know how often a pass calls a layer."""

    def sync(ranks):
        points = [point_of(PARTS[ranks.rank], name="act_post_states")]
        if len(PARTS[ranks.rank]):
            later = new_point(name="act:2_post_states", neurons=3, call_of="act_post_states")
            later.append(rows_of(4, neurons=3), 4)
            points.append(later)
        return {name: layer.state_count for name, layer in ts.Run(points).sync(ranks).items()}

    assert on_ranks(4, sync) == [{"act_post_states": 80, "act:2_post_states": 12}] * 4


DISAGREEING = {
    "another layer": ({"name": "other"}, "the layers"),
    "other neurons": ({"neurons": 6}, "layer: the number of neurons"),
    "another threshold": ({"threshold": 0.5}, "layer: when a neuron fires"),
    "other groups": ({"groups": 4}, "layer: the number of groups"),
}


@pytest.mark.parametrize("kind", DISAGREEING)
def test_ranks_that_disagree_are_an_error_on_every_rank(kind):
    different, message = DISAGREEING[kind]

    def sync(ranks):
        options = {"neurons": 5, "name": "layer"} | (different if ranks.rank == 1 else {})
        point = new_point(**options)
        point.append(rows_of(4, neurons=options["neurons"]), 4)
        return ts.Run([point]).sync(ranks)

    found = on_ranks(3, sync)
    assert {type(error) for error in found} == {ts.errors.RanksDisagree}
    assert len({str(error) for error in found}) == 1
    assert message in str(found[0])


def test_an_error_of_one_rank_ends_all():
    def sync(ranks):
        point = point_of(PARTS[ranks.rank])
        if ranks.rank == 2:
            point.histogram = lambda: 1 / 0
        return ts.Run([point]).sync(ranks)

    found = on_ranks(4, sync)
    assert [type(error) for error in found] == [
        *[ts.errors.RanksDisagree] * 2,
        ZeroDivisionError,
        ts.errors.RanksDisagree,
    ]
    assert "rank 2 has nothing to merge: ZeroDivisionError: division by zero" in str(found[0])


def test_the_run_itself_does_not_change():
    point = point_of(range(9))
    before = point.histogram()
    on_ranks(1, lambda ranks: ts.Run([point]).sync(ranks))
    assert point.histogram() == before
    assert np.array_equal(point.raw_states, point_of(range(9)).raw_states)


@pytest.mark.parametrize("short", [0, 2])
def test_a_rank_without_memory_for_labels_and_groups_together(short, monkeypatch):
    """Nothing is lost: all ranks merge each of them alone."""
    whole = point_of(range(40), labels=True)
    grouped_by = ts.CapturePoint.grouped_by

    def without_memory(point, *arguments, **options):
        if point.instance_count == len(PARTS[short]):
            raise MemoryError
        return grouped_by(point, *arguments, **options)

    monkeypatch.setattr(ts.CapturePoint, "grouped_by", without_memory)
    runs, _ = synchronised(lambda inputs: point_of(inputs, labels=True))
    layer = runs[0]["layer"]
    assert layer.histogram().total == whole.state_count
    assert {label: each.total for label, each in layer.counts_by().items()} == {
        label: each.total for label, each in whole.counts_by().items()
    }
    with pytest.raises(ts.errors.RowsNotKept, match="no memory for counts by label and group"):
        layer.grouped_by()
