"""The table of measures: its numbers, its text, its HTML, and what it refuses."""

import dataclasses
import html.parser
import json
import math
import unicodedata

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.points import new_point, point_of_bits, point_of_numbers, rows_of


@pytest.fixture
def run():
    """Two layers of efficiency 1 and 0.25: their geometric mean is 0.5."""
    return ts.Run(
        [
            point_of_numbers("first", [0, 1, 2, 3] * 300, 2),
            point_of_numbers("second", [0, 5] * 600, 4, keep="counts"),
        ]
    )


def test_numbers(run):
    report = ts.report(run, accuracy=0.5, beta=3)
    first, second = report.layers
    assert dataclasses.asdict(first) == {
        "layer": "first",
        "axis": 1,
        "neurons": 2,
        "states": 1200,
        "distinct": 4,
        "entropy": 2.0,
        "efficiency": 1.0,
        "ceiling": 1.0,
        "axis_origin": None,
        "passes": None,
        "model_passes": None,
        "fires": True,
        "nan": 0.0,
        "other_names": (),
        "always_fires": False,
        "coverage": 1.0,
        "quality": "good",
        "slope": first.slope,
        "estimate": 1.0,
        "standard_error": first.standard_error,
        "lower": first.lower,
        "upper": 1.0,
        "inputs": 1200,
        "failed_passes": 0,
    }
    assert 0.99 < first.lower < 1 - first.standard_error < 1
    assert 0 < first.slope < 0.01
    assert (second.distinct, second.entropy, second.efficiency) == (2, 1.0, 0.25)
    assert report.network_efficiency == run.network_efficiency() == pytest.approx(0.5)
    assert report.aiq == pytest.approx((0.5**3 * 0.5) ** (1 / 4))
    assert report.aiq == ts.aIQ(report.network_efficiency, 0.5, 3)
    assert (report.accuracy, report.beta) == (0.5, 3)


def test_the_ceiling_of_few_states():
    (layer,) = ts.report(ts.Run([point_of_numbers("wide", [1, 2, 3, 4], 8)])).layers
    assert layer.efficiency == layer.ceiling == math.log2(4) / 8


def test_the_table(run):
    assert str(ts.report(run, 0.9)).splitlines() == [
        "layer   axis  neurons  states  distinct     entropy  efficiency  ceiling  coverage"
        "      95 % range  quality",
        "------  ----  -------  ------  --------  ----------  ----------  -------  --------"
        "  --------------  -------",
        "first      1        2   1,200         4  2.000 bits     100.0 %  100.0 %   100.0 %"
        "  99.9 - 100.0 %     good",
        "second     1        4   1,200         2  1.000 bits      25.0 %  100.0 %   100.0 %"
        "               -    rough",
        "",
        "network efficiency  50.0 %",
        "accuracy            90.0 %",
        "aIQ (beta 2)        74.0 %",
    ]


def test_the_table_without_accuracy(run):
    report = ts.report(run)
    assert (report.accuracy, report.aiq) == (None, None)
    assert "accuracy" not in str(report)
    assert str(report).endswith("network efficiency  50.0 %")


def test_an_unknown_axis():
    made = ts.CapturePoint("layer")
    made.declare(2)
    made.append(np.array([[1], [2]], np.uint8), 2)
    report = ts.report(ts.Run([made]))
    assert report.layers[0].axis is None
    assert str(report).splitlines()[2].split()[:3] == ["layer", "-", "2"]


def test_a_layer_that_does_nothing(recwarn):
    report = ts.report(
        ts.Run([point_of_numbers("dead", [0] * 4, 4), point_of_numbers("live", [0, 1], 4)]), 0.9
    )
    assert (report.layers[0].efficiency, report.network_efficiency, report.aiq) == (0, 0, 0)
    assert not recwarn.list


class Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_names_that_a_terminal_would_obey_are_printed_as_python_writes_them():
    point = ts.CapturePoint("a\nb\x1b[31m")
    point.declare(8, 1)
    point.append(np.zeros((3, 1), np.uint8), 3)  # a layer that the lines below the table name, too
    text = str(ts.report(ts.Run([point])))
    assert text.count(r"'a\nb\x1b[31m'") == 2
    assert "\x1b" not in text
    (layer,) = ts.Run([point]).report().layers
    assert r"1 'rule\x1b'" in dataclasses.replace(layer, axis=1, axis_origin="rule\x1b").cells()


# Chinese and Korean characters take two columns of a terminal each; an accent of its
# own takes none.
@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("卷积层", 6),
        ("한국어", 6),
        (unicodedata.normalize("NFD", "한국어"), 6),
        ("e\u0301cole", 5),
        ("кодер", 5),
    ],
)
def test_columns_of_a_table_are_aligned_whatever_the_script_of_names(name, columns):
    def text(name):
        return str(
            ts.report(
                ts.Run([point_of_numbers(name, [0] * 4, 4), point_of_numbers("first", [0, 1], 4)])
            )
        )

    ascii_name = "x" * columns
    assert text(name) == text(ascii_name).replace(ascii_name, name)


def test_html_shows_the_same_and_escapes_names():
    name = '<script>alert(1)</script> & "it\'s"'
    report = ts.report(ts.Run([point_of_numbers(name, [0, 1] * 30, 2)]), 0.5)
    parsed = Cells()
    parsed.feed(report._repr_html_())
    assert set(parsed.tags) == {*["table", "tr", "th", "td", "p", "br", "b", "svg", "rect", "line"]}
    assert "".join(parsed.texts).count(name) == 1
    row = ["1", "2", "60", "2", "1.000 bits", "50.0 %", "100.0 %", "100.0 %"]
    row += [report.layers[0].cells()[-2], "good"]
    assert parsed.texts[-len(row) - 6 : -6] == row
    assert [text.split(" (")[0] for text in parsed.texts[-6:][1::2]] == ["50.0 %"] * 3


def test_as_dict_is_json(run):
    report = ts.report(run, np.float32(0.5), beta=np.int64(1))
    as_dict = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert as_dict["accuracy"] == 0.5
    assert [layer["layer"] for layer in as_dict["layers"]] == ["first", "second"]
    assert as_dict["network_efficiency"] == report.network_efficiency


def test_a_report_does_not_change(run):
    report = ts.report(run)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.beta = 3
    run.reset()
    assert report.layers[0].states == 1200


@pytest.mark.parametrize(
    ("accuracy", "beta", "error"),
    [
        (-0.1, 2, ValueError),
        (math.nan, 2, ValueError),
        (math.inf, 2, ValueError),
        ("90 %", 2, TypeError),
        (0.9, 0, ValueError),
        (0.9, -1, ValueError),
        (0.9, math.nan, ValueError),
        (0.9, "2", TypeError),
        (90, 2, ValueError),
    ],
)
def test_bad_numbers(run, accuracy, beta, error):
    unread = ts.Run([new_point()])  # has nothing that could be measured, which comes later
    for each in (run, unread):
        with pytest.raises(error, match="beta must" if accuracy == 0.9 else "accuracy must"):
            ts.report(each, accuracy, beta)


@pytest.mark.parametrize(("width", "error"), [("80", TypeError), (0, ValueError), (9.5, TypeError)])
def test_bad_widths(run, width, error):
    with pytest.raises(error, match="width must be"):
        run.report().to_text(width)


@pytest.mark.parametrize("model", [object(), None, [new_point()], ts.Run([])])
def test_a_model_without_capture_points(model):
    with pytest.raises(ValueError, match="has no capture points to report") as raised:
        ts.report(model)
    for advice in ("use run.report()", "ts.Run([point, ...]).report()"):
        assert (advice in str(raised.value)) == (not isinstance(model, ts.Run))


def test_a_run_is_a_mapping_of_its_points(run):
    assert list(run) == ["first", "second"]
    assert len(run) == 2
    assert run["second"] is run.efficiency_layers[1]
    assert repr(run) == "Run(2 layers, 2,400 states: first, second)"
    points = run.efficiency_layers
    assert (list(run.keys()), list(run.values())) == (["first", "second"], points)
    assert list(run.items()) == list(zip(run, points, strict=True))
    assert (run.get("second"), run.get("third"), "first" in run) == (points[1], None, True)
    assert run != ts.Run(points)
    assert len({run, run}) == 1
    with pytest.raises(KeyError, match="run has no states of 'third'; there are"):
        run["third"]


class TestLayersOfWhichNothingWasCaptured:
    """They are named; the others are measured."""

    @pytest.fixture
    def some(self, run):
        unused = ts.CapturePoint("unused")
        return ts.Run([unused, *run.efficiency_layers, ts.CapturePoint("a\nb", keep="counts")])

    def test_the_report_names_them(self, some, run):
        report = some.report(0.9)
        assert report.missing == ("unused", "a\nb")
        assert dataclasses.replace(report, missing=()) == run.report(0.9)
        assert run.report().missing == ()
        assert str(report).splitlines()[-1] == "nothing captured of  unused, 'a\\nb'"
        assert "unused, &#x27;a\\nb&#x27;" in report._repr_html_()
        assert json.loads(json.dumps(report.as_dict()))["missing"] == ["unused", "a\nb"]

    def test_the_network_s_efficiency_warns(self, some, run):
        with pytest.warns(UserWarning, match="nothing was captured of unused, a\nb"):
            assert some.network_efficiency() == run.network_efficiency()

    def test_a_store_is_reported(self, run, tmp_path):
        with ts.Store(tmp_path / "run", "x") as store:
            ts.CapturePoint("unused", store)
            stored = ts.CapturePoint("first", store)
            stored.declare(2, 1)
            stored.append(run["first"].raw_states, 1200)
        report = ts.Store(tmp_path / "run").report()
        assert (report.missing, len(report.layers)) == (("unused",), 1)
        assert report.layers[0] == run.report().layers[0]

    def test_none_at_all_is_an_error(self):
        nothing = ts.Run([ts.CapturePoint("one"), ts.CapturePoint("two")])
        for measure in (nothing.report, nothing.network_efficiency):
            with pytest.raises(ts.errors.NothingCaptured, match="one: nothing captured yet"):
                measure()


def test_a_run_of_many_layers_is_shown_in_a_line_or_as_its_table(run):
    empty = ts.Run([ts.CapturePoint(f"layer{i}.with.a.long<name>_post_states") for i in range(53)])
    assert len(repr(empty)) < 200
    assert repr(empty).startswith("Run(53 layers, 0 states: layer0.with")
    assert "layer52.with.a.long&lt;name&gt;_post_states" in empty._repr_html_()
    assert run._repr_html_() == run.report()._repr_html_()
    assert ts.Run([])._repr_html_().startswith("<table>")


@pytest.mark.parametrize("by_label", [False, True])
def test_progress_is_complete_though_a_layer_is_reset_meanwhile(by_label):
    points, told = [new_point(name=name) for name in ("kept", "reset")], []
    for point in points:
        point.append(rows_of(9), 9, labels=[0, 1, 2] * 3)

    def progress(*now):
        told.append(now)
        points[1].reset_states()

    found = ts.report(ts.Run(points), by_label=by_label, progress=progress)
    total = 36 if by_label else 18
    assert found.missing == ("reset",)
    assert told[-1] == (total, total)


def test_a_path_of_a_layer_leaves_room_for_its_numbers():
    """At 80 columns, two tables, not one for each column; long names have their own lines."""
    path = "model.language_model.layers.31.self_attn.q_proj_post_states"
    states = np.ones((10, 8), bool)
    report = ts.Run([point_of_bits(name, states) for name in ("embed", path)]).report()
    *tables, _ = report.to_text(80).split("\n\n")
    assert len(tables) == 2
    for lines in (table.splitlines() for table in tables):
        assert [line.split()[0] for line in lines[:1] + lines[2:4]] == ["layer", "embed", path]
        assert lines[4].split() == lines[2].split()[1:]
        assert {len(line) for line in lines[:3] + lines[4:]} == {len(lines[0])}
        assert len(lines[0]) <= 80
    assert path in report.to_text(200).splitlines()[3].split()  # where it fits, in its row


def test_a_layer_that_is_hardly_ever_in_another_state_is_not_shown_as_constant():
    rows = np.zeros((1000, 500), bool)
    rows[0, 0] = True
    report = ts.Run([point_of_bits("layer", rows)]).report()
    assert f"{100 * report.layers[0].efficiency:.4f}" == "0.0023"
    told = "0.002 % (95 % range: 0.0 - 0.01 %)"
    assert ("network efficiency", told) in report.summary()
    assert "0.002 %" in report.layers[0].cells()


def test_one_input_is_no_plural():
    point = point_of_bits("layer", np.ones((1, 1), bool))
    assert repr(point.histogram()).startswith("StateCounts(1 distinct of 1 state, 1 neuron, ")
    shown = repr(point_of_bits("layer", np.ones((1, 2), bool)).estimate())
    assert shown == "Estimate(0 bits, bounds 0 to 2, bounds only, coverage 0.0 %, 1 instance)"


@pytest.mark.parametrize("neurons", [1, 3, 5, 6])
def test_a_layer_that_shows_all_states_is_not_at_a_ceiling(neurons):
    """So few rows that the second half has added a bit; but there is no entropy beyond."""
    report = ts.Run([point_of_numbers("layer", range(2**neurons), neurons)]).report()
    assert report.layers[0].slope > 0.5
    assert report.layers[0].efficiency == pytest.approx(1)
    assert "at the ceiling" not in dict(report.summary())
    wider = ts.Run([point_of_numbers("layer", range(2**neurons), neurons + 1)]).report()
    assert "at the ceiling" in dict(wider.summary())
