"""Run.sync(): capture points of ranks, here threads, against one process with all inputs."""

import dataclasses

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.points import new_point, rows_of
from tests.support.rank_points import (
    FIELDS,
    PARTS,
    chain_of,
    point_of,
    synchronised,
)
from tests.support.thread_ranks import on_ranks, ranks_are_given  # noqa: F401

OPTIONS = [{"keep": "states"}, {"keep": "counts"}, {"keep": "counts", "groups": 8}]


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


CHAIN_PARTS = [range(90), range(0), range(90, 150), range(150, 200)]


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


def test_a_run_of_ranks_is_a_table_in_notebooks():
    def html(ranks):
        return (
            ts.Run([point_of(range(4))]).sync(ranks)._repr_html_(),
            ts.Run([point_of(range(0))]).sync(ranks)._repr_html_(),
        )

    [(table, names)] = on_ranks(1, html)
    assert "network efficiency" in table
    assert "<td>layer</td>" in names


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


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 8}], ids=str)
def test_a_layer_whose_inputs_have_no_rows_on_any_rank(options):
    def sync(ranks):
        rowless = new_point(name="rowless", neurons=5, **options)
        rowless.append(rows_of(0, neurons=5), 4)
        return ts.Run([rowless, point_of(PARTS[ranks.rank], name="used", **options)]).sync(ranks)

    for run in on_ranks(4, sync):
        with pytest.raises(ts.errors.NothingCaptured, match="rowless: nothing captured"):
            run["rowless"].grouped()
        assert run["used"].grouped().estimate().rows == 80


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


@pytest.mark.parametrize("of_last", [["a", "b"], ["a", "b", "b:2", "b:3"], ["a", "a:2", "b"]])
def test_ranks_that_take_other_ways_through_a_model_keep_all_calls(of_last):
    """No rank knows all of the calls, and the one with the most lacks some."""
    of_ranks = [["a", "a:2", "b"], ["a", "b", "b:2"], of_last]

    def sync(ranks):
        points = []
        for name in of_ranks[ranks.rank]:
            first = name[0] if ":" in name else None
            points.append(new_point(name=name, neurons=3, call_of=first))
            points[-1].append(rows_of(4, neurons=3), 4)
        return [(name, layer.state_count) for name, layer in ts.Run(points).sync(ranks).items()]

    calls = [name for name in ("a", "a:2", "b", "b:2", "b:3") if any(name in of for of in of_ranks)]
    whole = [(name, 4 * sum(name in of for of in of_ranks)) for name in calls]
    assert on_ranks(3, sync) == [whole] * 3


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
            point.intake.accumulator.samples_by_label = lambda groups: 1 / 0
        return ts.Run([point]).sync(ranks)

    found = on_ranks(4, sync)
    assert [type(error) for error in found] == [
        *[ts.errors.RanksDisagree] * 2,
        ZeroDivisionError,
        ts.errors.RanksDisagree,
    ]
    assert "rank 2 cannot take part: ZeroDivisionError: division by zero" in str(found[0])


def test_the_run_itself_does_not_change():
    point = point_of(range(9))
    before = point.histogram()
    on_ranks(1, lambda ranks: ts.Run([point]).sync(ranks))
    assert point.histogram() == before
    assert np.array_equal(point.raw_states, point_of(range(9)).raw_states)
