"""The names of layers in figures: of many, long and odd ones."""

import warnings

import matplotlib
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import reporting
from tests.support.points import new_point, point_of_bits

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


def test_thousands_of_layers():
    layer = ts.Run([point_of_bits("one", np.eye(3, dtype=bool))]).report().to_pandas()
    many = layer.loc[[0] * 1000].reset_index(drop=True)
    ax = reporting.plot_efficiency(many)
    assert ax.figure.get_size_inches()[1] == 30
    assert len(ax.get_yticklabels()) == 100


def test_many_layers_long_names_and_single_states_leave_room_for_what_is_drawn():
    points = [new_point(name=f"layer {number}\n{'x' * 200}") for number in range(30)]
    for point in points:
        point.append(np.zeros((3, 2), np.uint8), 3)
    report = ts.Run(points).report()
    titles = {
        reporting.plot_rank_frequency: "",
        reporting.plot_discovery: "gained by the last half: ",
    }
    for plot, title in titles.items():
        ax = plot(report)
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert len(names) == 10
        assert names[1].startswith(r"'layer 3\nxxxx")
        assert ax.get_legend().get_title().get_text() == f"{title}one of 3 is named"
        assert all(line.get_marker() == "o" for line in ax.lines)  # a point has no line
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of matplotlib, if names leave no room
            ax.figure.draw_without_rendering()
        assert ax.get_position().width > 0.2
        plt.close(ax.figure)


def test_names_that_begin_with_an_underscore_are_in_the_legend():
    bits = np.eye(3, dtype=bool)
    table = ts.Run([point_of_bits(name, bits) for name in ("_fc", "_out")]).report()
    log = {10: {"train/efficiency/_fc": 0.5, "train/efficiency/_out": 0.4}}
    _, ax = plt.subplots()
    ax.axvline(2)  # of the user, without a name
    for axes in (
        reporting.plot_rank_frequency(table, ax=ax),
        reporting.plot_discovery(table),
        reporting.plot_training(log),
    ):
        names = [text.get_text().split()[0] for text in axes.get_legend().get_texts()]
        assert names == ["_fc", "_out"]
        axes.figure.canvas.draw()


LONG = [f"encoder.layers.{number}.self_attention_proj_post_states" for number in range(4)]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (LONG, [f"encoder.layers.{number}…f_attention_proj" for number in range(4)]),
        ([LONG[0], "out_post_states"], ["encoder.layers.…_attention_proj", "out"]),
        (
            [f"{'x' * 40}_{place}_states" for place in ("pre", "post")],
            ["xxxxxxxxxxxxxxx…xxxxxxxxxxx_pre", "xxxxxxxxxxxxxxx…xxxxxxxxxx_post"],
        ),
        (["conv_post_states", "fc_post_states"], ["conv_post_states", "fc_post_states"]),
        (
            ["x" * 40, "x" * 40 + "_states"],
            ["xxxxxxxxxxxxxxx…xxxxxxxxxxxxxxx", "xxxxxxxxxxxxxxx…xxxxxxxx_states"],
        ),
    ],
)
def test_long_names_stay_distinct(names, shown):
    bits = np.eye(3, dtype=bool)
    report = ts.Run([point_of_bits(name, bits) for name in names]).report()
    legend = reporting.plot_rank_frequency(report).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == shown
    for plot in (reporting.plot_efficiency, reporting.plot_firing_rates):
        assert [label.get_text() for label in plot(report).get_yticklabels()] == shown


def test_classes_with_long_names_are_not_called_by_layers():
    names = ["united_states", "y" * 40 + "_states"]
    found = ts.information.class_divergences([0, 1, 0, 1] * 9, np.repeat(names, 18), 0)
    ax = reporting.plot_class_divergences(found)
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == ["united_states", "yyyyyyyyyyyyyyy…yyyyyyyy_states"]
