"""Figures of reports: what the axes show, and what is refused."""

import matplotlib
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import neurons, reporting
from tests.support.points import new_point, point_of_bits

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def run():
    """A layer that is well known, one of which every state is new, and one without groups."""
    rng = np.random.default_rng(0)
    known = rng.random((640, 3)) < 0.5
    wide = rng.random((640, 40)) < 0.5
    wide[:, :2], wide[:, 2] = False, True
    return ts.Run(
        [
            point_of_bits("known", known),
            point_of_bits("a $wide$ one", wide),
            point_of_bits("c", known, keep="counts"),
        ]
    )


@pytest.fixture(params=["report", "pandas", "arrow"])
def given(request, run):
    """A function that returns a figure's argument: the report, or its table by this name."""
    report = run.report()
    if request.param == "report":
        return lambda _: report
    return lambda name: getattr(report, f"{name}to_{request.param}")()


def test_efficiency(run, given):
    report = run.report()
    ax = reporting.plot_efficiency(given(""))
    widths = sorted(bar.get_width() for bar in ax.patches)
    assert widths == pytest.approx(sorted(100 * layer.efficiency for layer in report.layers))
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["95 % interval", "95 % bounds", "ceiling", "good", "rough", "bounds only"]
    known, wide, _ = report.layers
    (interval, bounds) = ax.collections
    assert interval.get_segments()[0][:, 0] == pytest.approx([100 * known.lower, 100 * known.upper])
    assert bounds.get_segments()[0][:, 0] == pytest.approx([100 * wide.lower, 100 * wide.upper])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["known", "a $wide$ one", "c"]
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    ax.figure.canvas.draw()


def test_rank_frequency(run, given):
    ax = reporting.plot_rank_frequency(given("repetitions_"), ["known", "a $wide$ one"])
    known, wide = ax.lines
    counts = np.sort(run["known"].counts())[::-1]
    ranks, times = known.get_data()
    steps = list(dict.fromkeys(counts.tolist()))  # from the first to the last rank of each count
    firsts = [1 + int((counts > times).sum()) for times in steps]
    lasts = [int((counts >= times).sum()) for times in steps]
    np.testing.assert_array_equal(ranks.reshape(-1, 2), np.transpose([firsts, lasts]))
    np.testing.assert_array_equal(times, np.repeat(steps, 2))
    np.testing.assert_array_equal(wide.get_data(), [[1, 640], [1, 1]])
    assert known.get_linestyle() != wide.get_linestyle()
    ax.figure.canvas.draw()


def test_discovery(run, given):
    ax = reporting.plot_discovery(given("repetitions_"), "known")
    (line,) = ax.lines
    rows, bits = line.get_data()
    assert rows.tolist() == [1, 2, 5, 10, 20, 40, 80, 160, 320, 640]
    counts = run["known"].counts()
    expected = [ts.information.rarefaction(counts, int(each)) for each in rows]
    assert bits == pytest.approx(expected)
    gained = expected[-1] - expected[-2]
    legend = ax.get_legend()
    assert legend.get_title().get_text() == "gained by the last half"
    assert legend.get_texts()[0].get_text() == f"known (+{gained:.2f} bits)"
    ax.figure.canvas.draw()


def test_firing_rates(run, given):
    ax = reporting.plot_firing_rates(given("neurons_"))
    rates = np.sort(np.concatenate([line.get_xdata() for line in ax.lines]))
    expected = np.concatenate([neurons.firing_rates(point) for point in run.values()])
    assert rates == pytest.approx(np.sort(100 * expected))
    assert [text.get_text() for text in ax.texts] == ["2 dead, 1 always on"]
    ax.figure.canvas.draw()


def test_firing_rates_name_only_the_marks_that_there_are():
    named = {}
    for rates in ((0.2, 0.9), (0, 0.9), (1, 0.9), (0, 1)):
        ax = reporting.plot_firing_rates({"layer": ["a", "a"], "rate": rates})
        legend = ax.get_legend()
        named[rates] = [text.get_text() for text in legend.get_texts()] if legend else []
    never, always = "never fires", "always fires"
    assert [*named.values()] == [[], [never], [always], [never, always]]


def test_texts_follow_the_font_size_of_a_paper(run):
    found = ts.information.class_divergences(np.arange(20) % 3, np.repeat(["a", "b"], 10), 0)
    with plt.rc_context({"font.size": 6}):
        drawn = [
            reporting.plot_efficiency(run.report()),
            reporting.plot_discovery(run.report()),
            reporting.plot_correlations(run["known"]),
            reporting.plot_class_divergences(found),
            reporting.plot_confusion_matrix([0, 1], [0, 1]),
        ]
        texts = [text for ax in drawn for text in ax.figure.findobj(matplotlib.text.Text)]
    assert max(text.get_size() for text in texts if text.get_text()) == 6


def test_firing_rates_beside_another_figure():
    """An empty line that is not clipped would reach from the axes to the corner of the figure."""
    rates = {"layer": ["a", "a", "b"], "rate": [0.2, 0.4, 0.9]}
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    reporting.plot_firing_rates(rates, ax=right)
    right.figure.canvas.draw()
    assert left.get_position().width > 0.3
    assert right.get_position().width > 0.3


def test_correlations_of_neurons_that_change():
    """Two groups of neurons that fire together, shuffled, and one that never fires."""
    rng = np.random.default_rng(1)
    groups = rng.random((500, 2)) < 0.5
    bits = np.concatenate([groups[:, [0, 1, 0, 1, 0, 1]], np.zeros((500, 1), bool)], axis=1)
    layer = point_of_bits("layer", bits)
    matrix = neurons.correlations(layer)
    tables = reporting.correlations_to_pandas(layer), reporting.correlations_to_arrow(matrix)
    for states in (layer, matrix, *tables):
        ax = reporting.plot_correlations(states)
        shown = ax.images[0].get_array()
        assert shown.shape == (6, 6)
        np.testing.assert_allclose(shown[:3, :3], 1)
        np.testing.assert_allclose(shown[3:, 3:], 1)
        assert np.abs(shown[:3, 3:]).max() < 0.2
        name = "layer, " if states is layer else ""
        assert ax.get_title() == f"{name}without 1 constant neuron"
        named = [int(label.get_text()) for label in ax.get_xticklabels()]  # as the layer has them
        np.testing.assert_allclose(shown, matrix[np.ix_(named, named)])
        ax.figure.canvas.draw()


@pytest.mark.parametrize("kind", ["object", "pandas", "arrow", "polars"])
def test_class_divergences(kind):
    """Two classes of one source, and one that has states of its own."""
    states = np.random.default_rng(3).integers(0, 4, (3, 50)) + np.array([[0], [0], [9]])
    found = ts.information.class_divergences(states.ravel(), np.repeat(["a", "$b$", "c"], 50), 0)
    as_given = {
        "object": lambda found: found,
        "pandas": reporting.divergences_to_pandas,
        "arrow": reporting.divergences_to_arrow,
        "polars": polars_divergences,
    }
    ax = reporting.plot_class_divergences(as_given[kind](found))
    shown = ax.images[0].get_array()
    assert np.isnan(np.asarray(shown).diagonal()).all()
    np.testing.assert_allclose(shown[0, 2], 1 - found.null[0, 2])
    assert shown[0, 1] < 0.05
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("", "label", "label")
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == found.labels.tolist() == ["$b$", "a", "c"]
    written = {tuple(map(round, text.get_position())): text.get_text() for text in ax.texts}
    assert (written[0, 1], written[2, 0]) == ("x", f"{shown[0, 2]:.2f}")
    assert len(written) == 6
    ax.figure.canvas.draw()
    with pytest.raises(ValueError, match="are of one layer only, got layer='a'"):
        reporting.plot_class_divergences(as_given[kind](found), layer="a")


def polars_divergences(found):
    polars = pytest.importorskip("polars")
    return polars.from_arrow(reporting.divergences_to_arrow(found))


def test_a_polars_frame_without_a_column(run):
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(run.report().to_arrow())
    assert len(reporting.plot_efficiency(frame).patches) == 3
    with pytest.raises(ValueError, match="the table has no column 'layer'"):
        reporting.plot_efficiency(frame.drop("layer"))


@pytest.mark.parametrize("given", [dict, reporting.training_to_pandas, reporting.training_to_arrow])
def test_training(given):
    log = {
        20: {"train/efficiency": 0.5, "train/efficiency/a": 0.4, "train/efficiency/b": 0.6},
        10: {"train/efficiency/a": 0.2, "train/entropy/a": 3.5, "eval/efficiency/a": 0.9},
    }
    log = given(log)
    ax = reporting.plot_training(log)
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines == {"a": [[10, 20], [20, 40]], "b": [[20, 60]]}
    ax = reporting.plot_training(log, "entropy")
    assert (ax.get_ylabel(), ax.lines[0].get_xydata().tolist()) == ("entropy in bits", [[10, 3.5]])
    assert reporting.plot_training(log, phase="eval", ax=ax) is ax
    with pytest.raises(
        ValueError, match=r"no train/loss/\.\.\.; there are eval/efficiency, train/eff"
    ):
        reporting.plot_training(log, "loss")
    with pytest.raises(TypeError, match=r"must be a mapping of step to scalars.*got list$"):
        reporting.plot_training([log])
    with pytest.raises(ValueError, match="there are no scalars"):
        reporting.plot_training(given({}))


def test_axes_of_the_user(run):
    report = run.report()
    _, axes = plt.subplots(2, 2)
    for plot, ax in zip(
        (
            reporting.plot_efficiency,
            reporting.plot_rank_frequency,
            reporting.plot_discovery,
            reporting.plot_firing_rates,
        ),
        axes.flat,
        strict=True,
    ):
        assert plot(report, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    "plot",
    [
        reporting.plot_efficiency,
        reporting.plot_rank_frequency,
        reporting.plot_discovery,
        reporting.plot_firing_rates,
    ],
)
def test_what_is_no_table(run, plot):
    with pytest.raises(TypeError, match="a Report or a table is needed, got a CapturePoint"):
        plot(run["known"])
    with pytest.raises(ValueError, match="the table has no column 'layer'"):
        plot(run.report().to_pandas().rename(columns={"layer": "name"}))
    with pytest.raises(ValueError, match="the table has no rows"):
        plot(run.report().neurons_to_pandas()[:0])
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    "plot",
    [reporting.plot_rank_frequency, reporting.plot_discovery, reporting.plot_firing_rates],
)
def test_what_names_no_layers(run, plot):
    _, ax = plt.subplots()
    with pytest.raises(TypeError, match="a list of names, got Axes; axes are given as ax="):
        plot(run.report(), ax)
    with pytest.raises(TypeError, match=r"a list of names, got float$"):
        plot(run.report(), 1.5)
    with pytest.raises(ValueError, match="layers is empty; at least one layer is needed"):
        plot(run.report(), [])
    with pytest.raises(ValueError, match="no layer 'b'; there are known"):
        plot(run.report(), "b")
    assert len(plot(run.report(), 0).figure.axes) == 1


def test_class_divergences_of_a_report():
    """That of the layer that is named; a name is needed where there are several."""
    labels = np.arange(600) % 3
    bits = labels[:, None] == np.arange(3)
    points = [new_point(name=name, neurons=3) for name in ("one", "other", "unlabelled")]
    for point, shift in zip(points, (0, 1, 2), strict=True):
        packed = np.packbits(np.roll(bits, shift, axis=1), axis=1, bitorder="little")
        point.append(packed, 600, labels if shift < 2 else None)
    report = ts.Run(points).report(by_label=True)
    table = report.divergences_to_pandas()
    assert table["layer"].tolist() == ["one"] * 6 + ["other"] * 6
    assert table["label"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert table["other"].tolist() == [1, 2, 0, 2, 0, 1] * 2
    assert table["divergence"].tolist() == [1] * 12
    assert report.divergences_to_arrow().to_pandas().equals(table)
    for given in (report, table):
        axes = plt.figure().subplots(1, 3)
        for ax, layer in zip(axes, ("other", 1, np.int64(1)), strict=True):
            assert reporting.plot_class_divergences(given, ax, layer=layer) is ax
            assert np.nanmin(ax.images[0].get_array()) > 0.9
        with pytest.raises(ValueError, match="layer= must name: one, other"):
            reporting.plot_class_divergences(given)
        with pytest.raises(ValueError, match=r"no layer .*; there are one, other"):
            reporting.plot_class_divergences(given, layer="unlabelled")
        for layer in (["one"], True, 1.0):
            with pytest.raises(TypeError, match="layer, if it is no name, must be an integer, got"):
                reporting.plot_class_divergences(given, layer=layer)
        with pytest.raises(TypeError, match="ax must be axes of matplotlib, got str 'other'"):
            reporting.plot_class_divergences(given, "other", layer="one")
    first = ts.Run(points[::-1]).report(by_label=True)  # places are those in the report
    with pytest.raises(ValueError, match="no layer 'unlabelled'; there are other, one"):
        reporting.plot_class_divergences(first, layer=0)
    with pytest.raises(IndexError, match="report has 3 layers, got index 3"):
        reporting.plot_class_divergences(first, layer=3)
    none = ts.Run(points[2:]).report(by_label=True)
    assert none.divergences_to_arrow().schema.names == [*table.columns]
    with pytest.raises(ValueError, match="the report compares no labels: it must be of labelled"):
        reporting.plot_class_divergences(none)
    with pytest.raises(ValueError, match="the table has no rows"):
        reporting.plot_class_divergences(none.divergences_to_pandas())


def test_a_layer_by_its_own_name():
    bits = np.eye(3, dtype=bool)
    names = ["conv_post_states", "fc_pre_states", "fc_post_states"]
    report = ts.Run([point_of_bits(name, bits) for name in names]).report()
    (line,) = reporting.plot_rank_frequency(report, "conv").lines
    assert line.get_label() == "conv_post_states"
    with pytest.raises(ValueError, match="no layer 'fc'; there are conv_post_states, fc_pre_"):
        reporting.plot_rank_frequency(report, "fc")


def test_a_layer_that_is_not_there(run):
    with pytest.raises(ValueError, match="no layer 'conv'; there are known, a \\$wide\\$ one, c"):
        reporting.plot_discovery(run.report(), "conv")
    assert not plt.get_fignums()


def test_a_run_is_no_table(run):
    for plot in (
        reporting.plot_efficiency,
        reporting.plot_discovery,
        reporting.plot_rank_frequency,
        reporting.plot_firing_rates,
        reporting.plot_class_divergences,
    ):
        with pytest.raises(TypeError, match=r"got a Run; its report\(\) makes one"):
            plot(run)
        with pytest.raises(TypeError, match=r"; the report\(\) of its run or store has it"):
            plot(run[0])
    with pytest.raises(TypeError, match="states must be those of one layer, got Run"):
        reporting.plot_correlations(run)
    assert not plt.get_fignums()


def test_neurons_that_never_change():
    bits = np.array([[1, 0, 1], [1, 1, 1]], bool)
    with pytest.raises(ValueError, match="fewer than two neurons change: 1 of 3"):
        reporting.plot_correlations(point_of_bits("layer", bits))
