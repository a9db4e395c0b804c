"""The graph of PyTorch models, drawn: what is a node, its colour, and what is written about it."""

import re

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import reporting
from tests.support.drawings import edges_of, labels_of, looks_of, with_graphviz


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.again, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.body(x)
        x = self.act(x + self.again(x))
        return self.act(self.head(x.mean((2, 3))))


def measured(model, *inputs, attach_to="*"):
    with ts.capture(model, attach_to) as run, torch.no_grad():
        model(*inputs)
    return run.report()


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    model = Residual()
    return model, measured(model, torch.randn(20, 1, 8, 8), attach_to=["Conv2d", "ReLU"])


def test_nodes_and_edges(residual):
    source = reporting.draw_architecture(*residual).source
    names = [label[0] for label in labels_of(source)]
    assert names == [
        *("x", "body.0", "body.1", "again", "add", "act", "mean", "head", "act, call 2", "output"),
    ]
    forward = [(place, place + 1) for place in range(9)]
    assert edges_of(source) == sorted([*forward, (2, 4)])


def test_layers_have_their_measure_and_their_colour(residual):
    model, report = residual
    source = reporting.draw_architecture(model, report).source
    labels = {label[0]: label for label in labels_of(source)}
    for layer in ("body.0", "again"):
        share = f"{100 * report[layer].efficiency:.1f} % efficient"
        assert labels[layer] == (layer, "Conv2d", share)
    second = report["act:2"].efficiency
    assert labels["act, call 2"] == ("act, call 2", "ReLU", f"{100 * second:.1f} % efficient")
    looks = {
        label[0]: look for label, look in zip(labels_of(source), looks_of(source), strict=True)
    }
    assert looks["head"]["fillcolor"] == "#eeeeee"  # it was not captured
    assert labels["head"] == ("head", "Linear")
    reds = {name: int(look["fillcolor"][1:3], 16) for name, look in looks.items()}
    order = sorted(("body.0", "again", "act"), key=lambda name: report[name].efficiency)
    assert sorted(order, key=lambda name: -reds[name]) == order  # the darker, the more efficient


def test_dead_share_and_quality(residual):
    model, report = residual
    labels = {
        measure: {label[0]: label[2] for label in labels_of(source) if len(label) == 3}
        for measure in ("dead_share", "quality")
        for source in [reporting.draw_architecture(model, report, measure).source]
    }
    table = report.neurons_to_pandas()
    rates = table[table["layer"] == "body.0_post_states"]["rate"]
    assert labels["dead_share"]["body.0"] == f"{100 * (rates == 0).mean():.1f} % dead"
    assert labels["quality"]["again"] == report["again"].quality


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_a_model_that_looks_at_numbers_is_a_tree():
    model = Branching()
    source = reporting.draw_architecture(model, measured(model, torch.ones(4, 3))).source
    assert [label[0] for label in labels_of(source)] == [
        *("Branching", "layer", "layer.0", "layer.1"),
    ]
    assert edges_of(source) == [(0, 1), (1, 2), (1, 3)]
    assert "the tree of modules: torch.fx cannot follow the model (TraceError: " in source


def test_a_captured_block_is_a_node_and_what_is_in_it_is_counted():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 2))
    alone = reporting.draw_architecture(model, measured(model, torch.ones(4, 3), attach_to="0"))
    assert [label[0] for label in labels_of(alone.source)] == ["input", "0", "1", "output"]
    both = reporting.draw_architecture(model, measured(model, torch.ones(4, 3)))
    assert [label[0] for label in labels_of(both.source)] == ["input", "0.0", "0.1", "1", "output"]
    assert "not in this graph: 1 captured layer" in both.source


@with_graphviz
def test_names_are_shown_as_they_are():
    names = ["<script>", 'a"; b -> c', "\\N &amp; {x|y}", "层", "two\nlines"]
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(2, 2))
    drawing = reporting.draw_architecture(model, measured(model, torch.ones(4, 2)))
    picture = drawing.to_svg()
    assert "<script" not in picture
    shown = re.findall(r"<text [^>]*>(.*?)</text>", picture)
    assert {"&lt;script&gt;", "a&quot;; b &#45;&gt; c", "层", "two lines"} <= set(shown)
    assert "\\N &amp;amp; {x|y}" in shown


def test_a_captured_model_is_drawn_while_it_has_hooks(residual):
    model = Residual()
    ts.build_efficiency_model(model, "Conv2d")
    model(torch.randn(20, 1, 8, 8))
    drawn = reporting.draw_architecture(model, ts.report(model))
    before = [label[:2] for label in labels_of(reporting.draw_architecture(*residual).source)]
    assert [label[:2] for label in labels_of(drawn.source)] == before
    assert ts.report(model)["body.0"].states == 20 * 6 * 6  # drawing captures nothing


@with_graphviz
def test_files(residual, tmp_path):
    drawing = reporting.draw_architecture(*residual)
    assert drawing._repr_svg_() == drawing.to_svg()  # what notebooks show
    for ending, begin in (("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        drawing.save(tmp_path / f"model.{ending}")
        assert (tmp_path / f"model.{ending}").read_bytes().startswith(begin)
    with pytest.raises(ValueError, match=r"model\.svg exists.*\(overwrite=True would"):
        drawing.save(tmp_path / "model.svg")
    (tmp_path / "model.svg").write_text("old")
    drawing.save(tmp_path / "model.svg", overwrite=True)
    assert (tmp_path / "model.svg").read_text() == drawing.to_svg()
    with pytest.raises(ValueError, match=r"must end in \.svg, \.png or \.pdf, got 'model\.gif'"):
        drawing.save("model.gif")
    with pytest.raises(ValueError, match="dpi must be at most 2,400, got 96000"):
        drawing.save(tmp_path / "large.png", dpi=96_000)
    assert not (tmp_path / "large.png").exists()


@with_graphviz
def test_a_picture_that_is_too_large_for_its_resolution(tmp_path):
    """Graphviz makes it smaller, and says so where nobody looks."""
    boxes = [f"n{i} -> n{i + 1}" for i in range(40)]
    drawing = reporting.Drawing("\n".join(["digraph {", *boxes, "}"]))
    with pytest.warns(UserWarning, match="1200 dpi are too many for this picture.*Scaling by 0"):
        drawing.save(tmp_path / "large.png", dpi=1200)


def test_graphviz_is_missing(residual, tmp_path, monkeypatch):
    drawing = reporting.draw_architecture(*residual)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"needs Graphviz.*apt install graphviz"):
        drawing.save(tmp_path / "new.svg")
    assert not (tmp_path / "new.svg").exists()


def test_what_cannot_be_drawn(residual):
    model, report = residual
    with pytest.raises(ValueError, match=r"'efficiency', 'dead_share', 'quality'\), got 'entropy'"):
        reporting.draw_architecture(model, report, "entropy")
    with pytest.raises(TypeError, match=r"Keras model or a torch\.nn\.Module, got dict"):
        reporting.draw_architecture({}, report)
    with pytest.raises(TypeError, match=r"a Report is needed, got a Run; its report\(\) makes one"):
        reporting.draw_architecture(model, ts.Run([]))
