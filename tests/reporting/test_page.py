"""The HTML page of a report: one file without a network, whatever the layers are called."""

import base64
import dataclasses
import html.parser
import json

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import neurons
from tensorstate_gpu.reporting.page.sentences import about_layer, about_network
from tensorstate_gpu.reporting.page.write import page_of
from tests.support.points import point_of_bits

HOSTILE = "</script><script>alert(1)</script> & \"x\" '$a$'"


def captured(name, bits):
    """A capture point with three labels."""
    return point_of_bits(name, bits, np.arange(len(bits)) % 3)


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    known = rng.random((640, 6)) < 0.3
    wide = rng.random((640, 40)) < 0.5
    wide[:, :2], wide[:, 2] = False, True
    return ts.Run(
        [
            captured("known", known),
            captured(HOSTILE, wide),
            captured("静か", np.zeros((640, 4), bool)),
        ]
    )


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    run.report(0.9, by_label=True).to_html(path, title="A <title>", origin={"model": "LeNet & Co"})
    return path.read_text(encoding="utf-8")


class Reader(html.parser.HTMLParser):
    """Collects what is shown, the scripts, and everything that would be loaded."""

    def __init__(self):
        super().__init__()
        self.shown, self.scripts, self.loaded, self.inside = [], [], [], None

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "style"):
            self.inside = tag
        given = dict(attributes)
        self.loaded += [given[name] for name in ("src", "data", "poster") if name in given]
        self.loaded += [given["href"]] if "href" in given and given["href"][0] != "#" else []

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, text):
        {None: self.shown, "script": self.scripts, "style": []}[self.inside].append(text)


def read_from(page):
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture(scope="module")
def read(page):
    return read_from(page)


def data_of(read):
    return json.loads(read.scripts[0])


def test_the_page_loads_nothing(page, read):
    assert read.loaded == []
    assert "default-src 'none'" in page
    assert len(page.encode()) < 3_000_000


def test_names_are_shown_as_they_are(read):
    shown = " ".join(read.shown)
    assert shown.count(HOSTILE) >= 3
    assert "静か" in shown
    assert "A <title>" in shown
    assert "LeNet & Co" in shown
    assert len(read.scripts) == 3  # the data, the charting library, and the page's own
    assert [layer["layer"] for layer in data_of(read)["efficiency"]] == ["known", HOSTILE, "静か"]


def test_names_that_cannot_be_printed_are_the_same_in_the_whole_page(tmp_path):
    points = [
        captured("a\nb", np.eye(3, dtype=bool)),
        captured("\u202eevil", np.eye(3, dtype=bool)),
    ]
    ts.Run(points).report().to_html(tmp_path / "page.html")
    read = Reader()
    read.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
    names = [r"'a\nb'", r"'\u202eevil'"]
    assert [layer["layer"] for layer in data_of(read)["efficiency"]] == names
    for name in names:
        assert " ".join(read.shown).count(name) >= 3
    assert "\u202e" not in " ".join(read.shown)


def test_long_names_in_the_chart_are_told_apart(tmp_path):
    """Vega cuts the end of a label: layers of one block would have the same."""
    names = [f"{'encoder.' * 12}{number}.{'attention.' * 4}output" for number in range(3)]
    points = [captured(name, np.eye(3, dtype=bool)) for name in names]
    ts.Run(points).report().to_html(tmp_path / "page.html")
    efficiency = data_of(read_from((tmp_path / "page.html").read_text()))["efficiency"]
    assert [layer["layer"] for layer in efficiency] == names
    short = [layer["name"] for layer in efficiency]
    assert len({*short}) == 3
    assert max(map(len, short)) < 120


def test_the_key_has_rough_layers_if_there_are_any(tmp_path):
    for keep, shown in (("states", False), ("counts", True)):
        point = point_of_bits("layer", np.eye(3, dtype=bool).repeat(40, axis=0), keep=keep)
        report = ts.Run([point]).report()
        assert (report.layers[0].quality == "rough") == shown
        path = tmp_path / f"{keep}.html"
        report.to_html(path)
        assert ("the same, rough" in read_from(path.read_text()).shown) == shown


def test_it_says_what_the_table_says(run, read):
    report = run.report(0.9)
    shown = " ".join(" ".join(read.shown).split())
    for layer in report.layers:
        for cell in layer.cells():
            assert cell in shown
    for _, value in report.summary():
        assert value in shown


@pytest.mark.parametrize(
    ("rows", "neurons", "distinct", "said"),
    [
        (300, 8, 256, "The second half of its 300 states still added 0.6 bits to its entropy of"),
        (300, 40, 256, "The second half of its 300 states still added 0.6 bits to its entropy of"),
        (300, 40, 1 << 30, "It is at its ceiling: 300 states can show no more than 20.6 %."),
    ],
)
def test_why_a_layer_needs_more_inputs(rows, neurons, distinct, said):
    numbers = np.random.default_rng(0).integers(0, distinct, rows)
    point = captured("layer", (numbers[:, None] >> np.arange(neurons)) % 2 == 1)
    (layer,) = ts.Run([point]).report().layers
    assert layer.is_at_ceiling
    (sentence,) = [text for text in about_layer(layer, None) if "Capture more inputs." in text]
    assert sentence.startswith(said)
    assert "100.0 %" not in sentence


def test_sentences(read):
    shown = " ".join(" ".join(read.shown).split())
    known, wide, silent = (layer["efficiency"] for layer in data_of(read)["efficiency"])
    assert f"Layer known uses {known:.1f} % of its capacity; with unlimited inputs" in shown
    assert f"Layer {HOSTILE} shows {wide:.1f} % of its capacity. With unlimited inputs" in shown
    assert "It is at its ceiling: 640 states can show no more than 23.3 %." in shown
    assert "2 of 40 neurons never fired. 1 of 40 neurons always fired." in shown
    assert "It never fires." in shown
    assert silent == 0


def test_why_a_layer_is_constant():
    """As a sentence, whatever the reason begins with."""
    points = [captured("on", np.ones((9, 3), bool)), captured("off", np.zeros((9, 3), bool))]
    told = [about_layer(layer, None)[1] for layer in ts.Run(points).report().layers]
    assert told == [
        "All neurons always fire: exclude= it, or choose a threshold=.",
        "It never fires.",
    ]


def test_warnings_come_first(run):
    """A guessed axis, and neurons that are idle, are told in the summary, not in a panel alone."""
    report = run.report()
    *_, never = about_network(report)
    assert never == "100.0 % of the neurons of layer 静か never fired."
    wide = np.ones((100, 10), bool)
    wide[:, 1:] = np.random.default_rng(0).random((100, 9)) < 0.5
    silent = wide.copy()
    silent[:, :2] = False
    points = [captured("one", wide), captured("silent", silent), captured("off", silent[:, :3])]
    guessed = ts.Run(points).report()
    guess = dataclasses.replace(guessed.layers[0], axis_origin="guess")
    guessed = dataclasses.replace(guessed, layers=(guess, *guessed.layers[1:]))
    assert about_network(guessed)[-3:] == [
        "Which axis counts the neurons is a guess for layer one; where it is wrong, so are the "
        "numbers. neuron_axis= says which does.",
        "In 2 layers, 10 % of the neurons or more never fired: in layer off, 66.7 % of them.",
        "10.0 % of the neurons of layer one always fired.",
    ]


def test_charts_have_the_numbers_of_the_layer(run, read):
    known, wide, _ = data_of(read)["layers"]
    assert known["rates"] == pytest.approx(100 * neurons.firing_rates(run["known"]), abs=0.01)
    rows, bits = known["discovery"][-1]
    assert (rows, bits) == (640, pytest.approx(run["known"].entropy(), abs=1e-4))
    counts = np.sort(run["known"].counts())[::-1]
    for rank, times in known["ranks"][:-1]:
        assert counts[rank - 1] == times
    assert wide["ranks"] == [[1, 1], [641, 1]]


def bytes_of(text):
    return np.frombuffer(base64.b64decode(text), np.int8)


def test_labels_that_a_layer_tells_apart(run, read):
    """In hundredths of a bit; -1 where the difference is that of permuted labels."""
    tables = run.report(by_label=True).by_label
    for data, table in zip(data_of(read)["labels"], tables, strict=True):
        found = table.divergences
        assert data["labels"] == [str(label) for label in found.labels] == ["0", "1", "2"]
        shown = bytes_of(data["divergences"]).reshape(3, 3)
        told = found.p_value <= 0.05
        np.testing.assert_array_equal(shown < 0, ~told)
        beyond = 100 * (found.divergence - found.null)[told]
        np.testing.assert_allclose(shown[told], np.clip(beyond, 0, 100), atol=0.51)


def test_correlations_of_a_layer(run, read):
    wide = data_of(read)["layers"][1]
    chosen = wide["neurons"]
    assert sorted(chosen) == list(range(3, 40))
    found = bytes_of(wide["correlations"]).reshape(37, 37)
    expected = neurons.correlations(run[HOSTILE])[np.ix_(chosen, chosen)]
    np.testing.assert_allclose(found / 100, expected, atol=0.0051)


def test_fifty_layers_fit(tmp_path):
    rng = np.random.default_rng(0)
    one = ts.Run([captured("layer", rng.random((300, 400)) < 0.2)]).report()
    many = dataclasses.replace(one, layers=one.layers * 50, profiles=one.profiles * 50)
    many.to_html(tmp_path / "many.html")
    assert (tmp_path / "many.html").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    "layers", [2000, *(pytest.param(n, marks=pytest.mark.long) for n in (300, 10_000))]
)
def test_many_layers_fit(layers):
    """A panel for the layers that matter most; the table has all."""
    rng = np.random.default_rng(0)
    half, wide = rng.random((2, 300, 64)) < 0.5
    half[:, :32] = False
    kinds = ts.Run([captured("wide", wide), captured("half", half)]).report(by_label=True)
    names = [f"block.{number}.{number % 64 == 63}" for number in range(layers)]

    def with_names(each):
        ordinary, dead = each
        return tuple(
            dataclasses.replace(dead if name.endswith("True") else ordinary, layer=name)
            for name in names
        )

    many = dataclasses.replace(
        kinds,
        layers=with_names(kinds.layers),
        profiles=with_names(kinds.profiles),
        by_label=with_names(kinds.by_label),
    )
    page = page_of(many, "Many layers", {})
    assert len(page.encode()) < 3_000_000
    reader = read_from(page)
    data, shown = data_of(reader), " ".join(reader.shown)
    assert len(data["efficiency"]) == len(data["layers"]) == page.count("<details") == 50
    assert f"50 of {layers:,} layers have a bar and a panel here" in shown
    labels = len(many.by_label[0].labels)
    assert page.count('<th scope="row">') == layers + 50 * labels
    assert page.count('href="#layer-') == 50
    assert f"block.11.False and {layers - 12:,} more: more states would show a higher" in shown
    assert page.count("<h3>") == 50  # with tables by label
    chosen = [layer["layer"] for layer in data["efficiency"]]
    assert chosen == sorted(chosen, key=names.index)
    dead = [name for name in names if name.endswith("True")]
    assert set(dead[:16]) <= set(chosen)


def test_states_are_called_by_their_layer():
    """The names in the table of a terminal are longer, and those of unlike layers stay unlike."""
    bits = np.eye(8, dtype=bool)
    names = ["conv_post_states", "fc_pre_states", "fc_post_states"]
    page = page_of(ts.Run([captured(name, bits) for name in names]).report(), "title", {})
    assert "_states" not in page
    assert [layer["layer"] for layer in data_of(read_from(page))["efficiency"]] == [
        *("conv", "fc_pre", "fc_post")
    ]
    alike = ["conv_pre_post_states", "conv_pre_states", "conv_post_states"]
    page = page_of(ts.Run([captured(name, bits) for name in alike]).report(), "title", {})
    assert [layer["layer"] for layer in data_of(read_from(page))["efficiency"]] == alike
    alike.append("\x1b_post_states")
    page = page_of(ts.Run([captured(name, bits) for name in alike]).report(), "title", {})
    names = [layer["layer"] for layer in data_of(read_from(page))["efficiency"]]
    assert names == [*alike[:-1], repr(alike[-1])]


def test_measures_that_are_no_numbers_and_a_name_with_half_of_a_character(run, tmp_path):
    report = run.report()
    strange = dataclasses.replace(
        report.layers[0], layer="\udc80", efficiency=float("nan"), ceiling=float("inf")
    )
    path = tmp_path / "report.html"
    dataclasses.replace(report, layers=(strange,)).to_html(path)
    reader = read_from(path.read_text(encoding="utf-8"))
    (shown,) = json.loads(reader.scripts[0], parse_constant=pytest.fail)["efficiency"]
    assert (shown["efficiency"], shown["ceiling"]) == (None, None)
    assert "\\udc80" in " ".join(reader.shown)


@pytest.mark.parametrize(("name", "is_isolated"), [("طبقة", True), ("שכבה", True), ("слой", False)])
def test_numbers_behind_names_from_right_to_left_stay_behind_them(name, is_isolated):
    """By isolates of Unicode (UAX 9): U+2068 and U+2069. Names in other scripts need none."""
    report = ts.Run([captured(name, np.zeros((640, 4), bool))]).report()
    told = about_network(report) + about_layer(report.layers[0], report.profiles[0])
    of_name = [sentence for sentence in told if name in sentence]
    assert len(of_name) == 2
    shown = f"\u2068{name}\u2069" if is_isolated else name
    assert all(f"ayer {shown} " in sentence for sentence in of_name)
