"""Where a layer fires for one input: the image of its positions, and what has none."""

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import errors, reporting
from tensorstate_gpu.reporting import positions
from tests.support.points import new_point

matplotlib.use("Agg")
IMAGES = torch.randn(5, 2, 6, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def conv():
    torch.manual_seed(0)
    return nn.Conv2d(2, 5, 3)


def shown_by(ax):
    return np.asarray(ax.images[0].get_array())


@pytest.mark.parametrize("stored", [False, True])
def test_positions_of_one_input(conv, stored, tmp_path, chunks_of):
    chunks_of(20)  # bytes: less than the 28 positions of an input
    model = nn.Sequential(conv)
    path = tmp_path / "run.zarr" if stored else None
    with ts.capture(model, "Conv2d", storage_path=path) as run, torch.no_grad():
        for batch in IMAGES.split(2):
            model(batch)
        fires = (conv(IMAGES) > 0).numpy()
    layer = ts.Store(path)["0"] if stored else run["0"]
    assert layer.spatial_shape == (4, 7)
    for number in (0, 2, -1):
        ax = reporting.plot_firing_map(layer, number)
        np.testing.assert_allclose(shown_by(ax), 100 * fires[number].mean(0))
        ax = reporting.plot_firing_map(layer, number, neuron=3)
        np.testing.assert_array_equal(shown_by(ax), fires[number, 3])
    for convert in (reporting.firing_map_to_pandas, reporting.firing_map_to_arrow):
        for neuron, expected in ((None, 100 * fires[2].mean(0)), (3, fires[2, 3])):
            ax = reporting.plot_firing_map(convert(layer, 2, neuron))
            np.testing.assert_allclose(shown_by(ax), expected)
    ax.figure.canvas.draw()


def test_one_axis_of_positions():
    model = nn.Sequential(nn.Linear(3, 4))
    x = torch.randn(2, 6, 3)
    with ts.capture(model, "Linear") as run, torch.no_grad():
        fires = (model(x) > 0).numpy()
    ax = reporting.plot_firing_map(run["0"], 1, neuron=2)
    np.testing.assert_array_equal(shown_by(ax), [fires[1, :, 2]])


def test_a_map_says_what_it_shows(conv):
    model = nn.Sequential(conv)
    with ts.capture(model, "Conv2d") as run, torch.no_grad():
        model(IMAGES)
    ax = reporting.plot_firing_map(run["0"], 2)
    assert (ax.get_title(), ax.get_xlabel()) == ("0_post_states, input 2", "x")
    ax = reporting.plot_firing_map(run["0"], 2, neuron=3)
    assert ax.get_title() == "0_post_states, input 2, neuron 3 fires where black"
    table = reporting.firing_map_to_pandas(run["0"], 2)
    assert reporting.plot_firing_map(table).get_title() == ""


def test_what_has_no_map(conv):
    model = nn.Sequential(conv, nn.Flatten(), nn.Linear(140, 3))
    with ts.capture(model, ["0", "2"]) as run, torch.no_grad():
        model(IMAGES)
    with pytest.raises(
        IndexError, match=r"input_number is 5, but 0_post_states has 5: from 0 to 4$"
    ):
        reporting.plot_firing_map(run["0"], 5)
    with pytest.raises(IndexError, match=r"neuron is -6, but 0_post_states has 5: from 0 to 4$"):
        reporting.plot_firing_map(run["0"], neuron=-6)
    with pytest.raises(ValueError, match=r"2_post_states has 0 axes of positions"):
        reporting.plot_firing_map(run["2"])
    for given in (run, run.report(), np.zeros((3, 1), np.uint8)):
        with pytest.raises(TypeError, match=f"layer of a Store, got {type(given).__name__}"):
            reporting.plot_firing_map(given)
    point = new_point(neurons=8)
    point.append(np.zeros((3, 1), np.uint8), 3)
    with pytest.raises(ValueError, match="layer has no positions: it has one state for each input"):
        reporting.plot_firing_map(point)
    point = new_point(neurons=8)
    point.append(np.zeros((6, 1), np.uint8), 3)
    with pytest.raises(ValueError, match="layer: the positions of its 2 states for each input are"):
        reporting.plot_firing_map(point)
    model = nn.Sequential(conv)
    with ts.capture(model, "Conv2d") as run, torch.no_grad():
        model(IMAGES)
        model(IMAGES[:, :, ::2].repeat(1, 1, 2, 1)[..., :6])
    with pytest.raises(ValueError, match="instances differ in their number of states"):
        reporting.plot_firing_map(run["0"])
    with ts.capture(model, "Conv2d", keep="counts") as run, torch.no_grad():
        model(IMAGES)
    with pytest.raises(errors.RowsNotKept):
        reporting.plot_firing_map(run["0"])


def test_positions_that_a_mask_leaves_out():
    """Rows of as many positions in each input, but fewer than there are."""
    model = nn.Sequential(nn.Linear(3, 4))
    keep = torch.arange(6).repeat(2, 1) < 4
    with ts.capture(model, "Linear") as run, run.labels(mask=keep), torch.no_grad():
        model(torch.randn(2, 6, 3))
    with pytest.raises(ValueError, match="0_post_states: its inputs differ in their positions"):
        reporting.plot_firing_map(run["0"])


@pytest.mark.parametrize("stored", [False, True])
def test_the_map_of_a_report(conv, stored, tmp_path):
    """That of the first input. A dense layer has none, nor one of which only counts are kept."""
    model = nn.Sequential(conv, nn.Flatten(), nn.Linear(140, 3))
    path = tmp_path / "run.zarr" if stored else None
    with ts.capture(model, storage_path=path) as run, torch.no_grad():
        model(IMAGES)
        fires = (conv(IMAGES) > 0).numpy()
    of_conv, of_dense = (ts.Store(path) if stored else run).report().profiles
    np.testing.assert_allclose(of_conv.first_map.shares, fires[0].mean(0), rtol=1e-6)
    assert of_dense.first_map is None
    with ts.capture(model, "Conv2d", keep="counts") as run, torch.no_grad():
        model(IMAGES)
    assert run.report().profiles[0].first_map is None


def test_inputs_of_several_sizes_have_no_map_in_a_report(conv):
    model = nn.Sequential(conv)
    with ts.capture(model, "Conv2d") as run, torch.no_grad():
        model(IMAGES)
        model(IMAGES[:, :, :5])
    assert run.report().profiles[0].first_map is None


def test_a_large_map_is_reduced(monkeypatch):
    """Means of squares, of which the last may be cut."""
    monkeypatch.setattr(positions, "MOST_POSITIONS", 3)
    layer = nn.Conv2d(1, 2, 1)
    with ts.capture(model := nn.Sequential(layer), "0") as run, torch.no_grad():
        x = torch.randn(1, 1, 7, 2)
        fires = (model(x) > 0).numpy()[0].mean(0)
    shown, step = run.report().profiles[0].first_map
    parts = [fires[0:3], fires[3:6], fires[6:7]]
    assert step == 3
    np.testing.assert_allclose(shown, [[part.mean()] for part in parts], rtol=1e-6)
