"""Tables by label: the measures of each label, and what a state tells about it."""

import dataclasses
import json
import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import information_estimates
from tensorstate_gpu.reporting import label_divergences, label_measures
from tensorstate_gpu.reporting.layer_report import LayerReport
from tests.support.points import point_of_numbers
from tests.support.python_calls import calls_of


def labelled(name="layer", **options):
    """Three labels: the state of a row tells it in two cases of three."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 3000)
    states = np.where(rng.random(3000) < 2 / 3, labels, rng.integers(0, 3, 3000))
    made = ts.CapturePoint(name, **options)
    made.declare(2, 1)
    made.append(states.astype(np.uint8)[:, None], 3000, labels)
    return made


def test_a_table_by_label():
    made = labelled()
    report = ts.Run([made]).report(by_label=True)
    (table,) = report.by_label
    assert (table.layer, table.labels, table.quality) == ("layer", (0, 1, 2), "good")
    for label, measures in zip(table.labels, table.measures, strict=True):
        counts = made.counts_by()[label]
        assert (measures.layer, measures.states) == (str(label), counts.total)
        assert measures.entropy == counts.entropy()
        assert measures.quality == "good"
    shares = np.full((3, 3), 1 / 9) + np.eye(3) * 2 / 3
    truth = math.log2(3) - ts.entropy(shares[0])
    assert table.lower < truth < table.upper
    lines = str(report).splitlines()
    assert lines[lines.index("layer, by label") + 1].split()[:2] == ["label", "states"]
    told = f"{table.information:.3f} of {table.label_entropy:.3f} bits"
    assert lines[-1].startswith(f"a state tells of its label  {told} (95 % range: 0.")
    rows = [made.counts_by()[label].total for label in table.labels]
    assert table.label_entropy == ts.entropy(rows)
    assert "a state tells of its label" in report._repr_html_()
    assert json.loads(json.dumps(report.as_dict()))["by_label"][0]["labels"] == [0, 1, 2]


def test_many_labels_of_few_inputs_take_no_long_time():
    """A label of a few inputs has no error, so nothing is done that only an error would use."""

    def calls(labels):
        made = ts.CapturePoint("layer")
        made.declare(32)
        states = np.random.default_rng(0).integers(0, 256, (2 * labels, 4), np.uint8)
        made.append(states, 2 * labels, np.arange(2 * labels) % labels)
        return len(calls_of(lambda: ts.Run([made]).report(by_label=True)))

    calls(30)  # compiles kernels
    assert calls(70) - calls(30) < 40 * 900


def of_many_labels(keep="states"):
    """Labels of up to 40 inputs, in units; some have a single state, which all neurons fire in."""
    rng = np.random.default_rng(0)
    made = ts.CapturePoint("layer", keep=keep)
    made.declare(4)
    labels = np.concatenate([np.arange(200) % 90, np.repeat(np.arange(90, 93), 40)])
    states = rng.choice([0, 1, 5, 15], len(labels)).astype(np.uint8)[:, None]
    units = rng.integers(0, 100, len(labels)) if keep == "states" else None
    made.append(states, len(labels), labels, units)
    return made


def test_labels_that_are_alike_have_the_measures_of_each():
    made = of_many_labels()
    (table,) = ts.Run([made]).report(by_label=True).by_label
    grouped = made.grouped_by()
    for label, found in zip(table.labels, table.measures, strict=True):
        counts = made.counts_by()[label]
        expected = LayerReport.of(str(label), counts, grouped[label].estimate("efficiency"))
        assert found == expected
    kept = of_many_labels("counts")
    (table,) = ts.Run([kept]).report(by_label=True).by_label
    for label, found in zip(table.labels, table.measures, strict=True):
        assert found == LayerReport.of(str(label), kept.counts_by()[label])


def test_bounds_of_labels_whose_states_occur_alike_are_those_of_their_neurons():
    """With an error they depend on which neurons fire, also where groups have the same counts."""
    single = np.zeros((2, 16), np.uint8)
    single[:, 9:] = [[1, 2, 4, 8, 16, 32, 64], [1, 2, 3, 4, 5, 6, 7]]
    grouped = {
        label: ts.GroupedCounts([ts.count_states(row[None, None], 8) for row in rows], [1] * 16)
        for label, rows in enumerate(single)
    }
    together = {label: each.together() for label, each in grouped.items()}
    measured = label_measures.measures_of(together, grouped)
    assert [each.upper for each in measured] == [
        each.estimate("efficiency").upper for each in grouped.values()
    ]
    assert measured[0].upper > measured[1].upper


def test_labels_of_other_numbers_of_inputs_are_not_alike():
    """Eight states, each in two rows: of one input or of two, which may belong together."""
    parts = [ts.count_states(np.full((2, 1), group, np.uint8), 8) for group in range(8)]
    kinds = ([2] * 8, False), ([1] * 8, False), ([2] * 8, True)
    grouped = {
        label: ts.GroupedCounts(parts, inputs, has_units=has_units)
        for label, (inputs, has_units) in enumerate(kinds)
    }
    together = {label: each.together() for label, each in grouped.items()}
    lower = [each.lower for each in label_measures.measures_of(together, grouped)]
    assert lower == [each.estimate("efficiency").lower for each in grouped.values()]
    assert lower[0] > lower[1] == lower[2]


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_labels_tell_the_same_however_many_are_added_up_at_once(batch, monkeypatch):
    grouped = of_many_labels().grouped_by()
    told = ts.information.estimate_mutual_information(grouped)
    monkeypatch.setattr(information_estimates, "_BATCH", batch)
    again = ts.information.estimate_mutual_information(grouped)
    fields = ("value", "plugin", "lower", "upper", "coverage", "rows", "standard_error")
    for field in fields:
        assert getattr(again, field) == pytest.approx(getattr(told, field), abs=1e-12)
    by_hand = [counts.group_sums() for counts in grouped.values()]
    whole = made_of(grouped).group_sums()
    assert information_estimates.information_of_sums(by_hand, whole).value == pytest.approx(
        told.value, abs=1e-12
    )


def made_of(grouped):
    first, *others = grouped.values()
    return first.merge(*others)


def test_many_labels_have_bounds_without_trees(monkeypatch):
    """Each neuron fires as another does, which only a tree sees."""
    made = ts.CapturePoint("layer")
    made.declare(16)
    half = np.random.default_rng(0).integers(0, 256, 400).astype(np.uint8)
    made.append(np.stack([half, half], 1), 400, np.arange(400) % 4)
    with_trees = ts.Run([made]).report(by_label=True).by_label[0].measures
    monkeypatch.setattr(label_measures, "MOST_TREES", 3)
    without = ts.Run([made]).report(by_label=True).by_label[0].measures
    for one, other in zip(with_trees, without, strict=True):
        assert one.upper < other.upper
        assert dataclasses.replace(one, upper=other.upper) == other


def test_a_table_by_label_of_counts():
    grouped = labelled(keep="counts", groups=32)
    assert ts.report(ts.Run([grouped]), by_label=True) == ts.report(
        ts.Run([labelled()]), by_label=True
    )
    (table,) = ts.Run([labelled(keep="counts")]).report(by_label=True).by_label
    assert (table.lower, table.quality) == (None, "rough")
    assert table.information == pytest.approx(0.599, abs=0.05)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_state_tells_no_more_than_the_bits_shown_of_its_label(keep):
    """A corrected entropy of labels is above that of the sample, which the table shows."""
    made = ts.CapturePoint("layer", keep=keep)
    made.declare(4, 1)
    made.append(np.arange(16, dtype=np.uint8)[:, None], 16, np.arange(16))
    table = ts.Run([made]).report(by_label=True).by_label[0]
    assert (table.information, table.label_entropy) == (4, 4)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_table_without_labels_says_so(keep):
    report = ts.Run([point_of_numbers("plain", [0, 1] * 9, 2, keep=keep)]).report(by_label=True)
    assert report.by_label[0].as_list() is None
    expected = "plain: 18 of 18 instances were captured without labels"
    assert str(report).splitlines()[-1].startswith(expected)
    assert "without labels" in report._repr_html_()


@pytest.mark.parametrize("stored", [False, True])
def test_which_labels_a_layer_tells_apart(stored, tmp_path):
    """As class_divergences of the same rows, as long as these are few, and the labels too."""
    made = labelled()
    if stored:
        ts.Run([made]).save(tmp_path / "run.zarr")
    run = ts.Store(tmp_path / "run.zarr") if stored else ts.Run([made])
    (table,) = run.report(by_label=True).by_label
    given = np.concatenate([*made.snapshot()[1].note_pieces("labels")])
    expected = ts.information.class_divergences(made, given, rng=0)
    for name in ("labels", "divergence", "null", "p_value"):
        found = getattr(table.divergences, name)
        np.testing.assert_array_equal(found, getattr(expected, name))


@pytest.mark.parametrize(("name", "most"), [("MOST_LABELS", 2), ("MOST_COMPARED", 5999)])
def test_divergences_that_take_long_are_left_out(name, most, monkeypatch):
    monkeypatch.setattr(label_divergences, name, most)
    (table,) = ts.Run([labelled()]).report(by_label=True).by_label
    assert table.divergences is None
    assert str(table).splitlines()[-1] == (
        "labels are not compared  it would take long; report(divergences=True) does, and report "
        "--divergences"
    )
    monkeypatch.setattr(label_divergences, name, most + 1)
    (table,) = ts.Run([labelled()]).report(by_label=True).by_label
    assert table.divergences is not None
    assert table.not_compared is None
    assert "not compared" not in str(table)


@pytest.mark.parametrize("stored", [False, True])
def test_divergences_that_need_more_than_the_memory_limit(stored, tmp_path, monkeypatch):
    """Nothing is read, and the table says what to do."""
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    run = ts.Run([labelled()])
    if stored:
        run.save(tmp_path / "run.zarr")
        run = ts.Store(tmp_path / "run.zarr")
    monkeypatch.setattr(label_divergences, "class_divergences", None)
    ts.set_memory_limit(300_000)
    try:
        report = run.report(divergences=True)
    finally:
        ts.set_memory_limit(None)
    (table,) = report.by_label
    assert table.divergences is None
    assert table.not_compared == (
        "it would take 357.0 kB of memory, more than the limit of 300.0 kB: set_memory_limit() "
        "raises it, and information.class_divergences() compares a part of the inputs"
    )
    assert report.as_dict()["by_label"][0]["not_compared"] == table.not_compared
    assert f"labels are not compared  {table.not_compared}" in str(report)
    assert "labels are not compared" in report._repr_html_()


def test_divergences_of_several_layers_share_the_time(monkeypatch):
    """Layers are compared in turn, as long as that is little in all; or all of them if asked."""
    run = ts.Run([labelled("a"), labelled("b"), labelled("c", keep="counts"), labelled("d")])
    monkeypatch.setattr(label_divergences, "MOST_COMPARED", 12_000)
    for asked, expected in ((False, ["a", "b"]), (True, ["a", "b", "d"])):
        tables = run.report(by_label=True, divergences=asked).by_label
        assert [each.layer for each in tables if each.divergences is not None] == expected
    monkeypatch.setattr(label_divergences, "MOST_LABELS", 2)
    assert run.report(divergences=True).by_label[0].divergences is not None
    assert run.report().by_label == ()


def test_counts_have_no_divergences():
    for options in ({}, {"groups": 32}):
        (table,) = ts.Run([labelled(keep="counts", **options)]).report(divergences=True).by_label
        assert table.divergences is None
        assert table.not_compared.startswith("only counts are kept")


@pytest.mark.parametrize("asked", [False, True])
def test_integers_and_strings_are_no_labels_that_are_compared(asked):
    """As of passes that were labelled in two ways; "1" is another label than 1."""
    point = ts.CapturePoint("layer")
    point.declare(8)
    for labels in ([1, 2, 1, 2], ["1", "b", "1", "b"]):
        point.append(np.arange(4, dtype=np.uint8)[:, None], 4, labels)
    report = ts.Run([point]).report(by_label=True, divergences=asked)
    (table,) = report.by_label
    assert table.labels == (1, 2, "1", "b")
    assert [each.states for each in table.measures] == [2, 2, 2, 2]
    assert table.divergences is None
    assert table.not_compared.startswith("some are integers and others strings")
    assert "labels are not compared  some are integers" in str(report)


def test_labels_of_which_a_mask_leaves_nothing_are_compared_with_none():
    rng = np.random.default_rng(0)
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.labels([0, 1, 2])
    point.record(rng.integers(0, 256, (40, 2), np.uint8), 16, 1, ((2, 20), (1, 0)))
    (table,) = ts.Run([point]).report(by_label=True).by_label
    assert table.labels == (0, 1)
    assert [*table.divergences.labels] == [0, 1]


def test_inputs_of_units_are_not_permuted_one_by_one():
    clips = np.repeat(np.arange(20), 25)
    rows = np.random.default_rng(0).integers(0, 256, (20, 2), np.uint8)[clips]
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(rows, len(rows), clips % 2, clips)
    for asked in (False, True):
        (table,) = ts.Run([point]).report(by_label=True, divergences=asked).by_label
        assert table.divergences is None
        assert table.not_compared.startswith("inputs belong to units")
