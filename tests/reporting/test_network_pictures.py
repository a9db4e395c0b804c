"""Weights, outputs, errors and confusion matrix: what the axes show, and what is refused."""

import matplotlib
import numpy as np
import pytest

from tensorstate_gpu import reporting

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


def shown(ax):
    (image,) = ax.images
    return image.get_array().filled(np.nan), image.get_clim()


@pytest.mark.parametrize("plot", [reporting.plot_weights, reporting.plot_outputs])
@pytest.mark.parametrize(("number", "tiles"), [(1, (1, 1)), (5, (2, 3)), (16, (4, 4))])
def test_a_picture_for_each_neuron(plot, number, tiles):
    pictures = np.random.default_rng(0).normal(size=(number, 3, 2))
    picture, _ = shown(plot(pictures.astype(np.float32)))
    rows, columns = tiles
    assert picture.shape == (4 * rows, 3 * columns)
    for place, expected in enumerate(pictures):
        top, left = 4 * (place // columns), 3 * (place % columns)
        np.testing.assert_allclose(picture[top : top + 3, left : left + 2], expected, rtol=1e-6)
    assert np.isnan(picture).sum() == picture.size - pictures.size


def test_no_weight_is_white():
    _, limits = shown(reporting.plot_weights(np.array([[[0.25, -2.0]]])))
    assert limits == (-2, 2)
    assert shown(reporting.plot_weights(np.zeros((1, 2, 2))))[1] == (-1, 1)


def test_errors():
    images = np.arange(20.0)[:, None, None]
    labels, predicted = np.arange(20) % 3, np.zeros(20, int)
    ax = reporting.plot_errors(images, labels, predicted)
    picture, _ = shown(ax)
    assert sorted(picture[~np.isnan(picture)]) == sorted(np.flatnonzero(labels))[:16]
    assert ax.get_title() == "13 errors: 1 as 0, 2 as 0, 1 as 0, 2 as 0, …"
    assert reporting.plot_errors(images, labels, labels).get_title() == "no errors"
    one = reporting.plot_errors(images[:2], ["$a$", "b"], ["b", "b"])
    assert one.get_title() == "1 error: $a$ as b"
    assert not one.title.get_parse_math()


def test_confusion_matrix():
    _, given = plt.subplots()
    labels = ["cat", "cat", "dog", "cat", "owl"]
    ax = reporting.plot_confusion_matrix(labels, ["cat", "dog", "dog", "cat", "cat"], ax=given)
    assert ax is given
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "owl"]
    found = {text.get_position()[::-1]: text.get_text() for text in ax.texts}
    assert found == {(0, 0): "2", (0, 1): "1", (1, 1): "1", (2, 0): "1"}


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"weights must be \(neurons, .* got \(3, 3\)$"):
        reporting.plot_weights(np.ones((3, 3)))
    with pytest.raises(ValueError, match="weights must be an array of numbers, got str: "):
        reporting.plot_weights("conv")
    with pytest.raises(ValueError, match=r"outputs must be \(neurons, .* got \(0, 3, 3\)$"):
        reporting.plot_outputs(np.ones((0, 3, 3)))
    with pytest.raises(ValueError, match=r"images must be \(images, .* images\[:, 0\] is one of"):
        reporting.plot_errors(np.ones((2, 1, 3, 3)), [0, 1], [1, 1])
    with pytest.raises(ValueError, match=r"two arrays \(inputs,\), got \(2,\) and \(3,\)"):
        reporting.plot_confusion_matrix([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="labels are empty"):
        reporting.plot_confusion_matrix([], [])
    with pytest.raises(ValueError, match="there are 3 images, and 2 labels"):
        reporting.plot_errors(np.ones((3, 1, 1)), [0, 1], [1, 1])
