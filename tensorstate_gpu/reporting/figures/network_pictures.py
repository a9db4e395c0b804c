"""The pictures that tutorials of networks end with: weights, outputs, errors, confusion matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arrays.frameworks import is_torch_tensor
from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu.reporting.figures.canvas import name_both_axes, new_axes
from tensorstate_gpu.reporting.text import with_noun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_ERRORS = 16
_NAMED_ERRORS = 4  # in the title


def plot_weights(weights: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the weights of a convolution, one picture for each neuron: red above 0, blue below.

    Parameters
    ----------
    weights : array, (neurons, height, width)
        For one channel of the input: ``layer.weight[:, 0]`` in PyTorch,
        ``layer.kernel[:, :, 0].numpy().transpose(2, 0, 1)`` in Keras.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    ValueError
        If the array is empty or has another number of axes.
    """
    pictures = _pictures(weights, "weights")
    limit = float(np.nanmax(np.abs(pictures))) or 1.0
    return _draw(pictures, ax, cmap="RdBu_r", vmin=-limit, vmax=limit)


def plot_outputs(outputs: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the outputs of a layer for one input, one picture for each neuron, all on one scale.

    Parameters
    ----------
    outputs : array, (neurons, height, width)
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    ValueError
        If the array is empty or has another number of axes.
    """
    return _draw(_pictures(outputs, "outputs"), ax, cmap="viridis")


def plot_errors(
    images: ArrayLike, labels: ArrayLike, predicted: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Draw the first 16 images with wrong predictions; the title says which those are.

    Parameters
    ----------
    images : array, (inputs, height, width)
    labels, predicted : arrays, (inputs,)
        Integers or strings.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    ValueError
        If the arrays have different lengths, or other numbers of axes.
    """
    pictures = _pictures(images, "images")
    true, found = _labels(labels, predicted)
    if len(pictures) != len(true):
        raise ValueError(f"there are {len(pictures):,} images, and {len(true):,} labels")
    wrong = np.flatnonzero(true != found)
    shown = wrong[:_MOST_ERRORS]
    empty = np.full((1, *pictures.shape[1:]), np.nan)
    ax = _draw(pictures[shown] if len(shown) else empty, ax, cmap="gray_r")
    told = [f"{true[each]} as {found[each]}" for each in shown[:_NAMED_ERRORS]]
    more = ["…"] if len(wrong) > len(told) else []
    title = (
        f"{with_noun(len(wrong), 'error')}: {', '.join([*told, *more])}" if told else "no errors"
    )
    ax.set_title(title, parse_math=False)
    return ax


def plot_confusion_matrix(labels: ArrayLike, predicted: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw how many inputs of each label were predicted as what.

    Rows are labels, columns predictions; the shade is the logarithm of the number, so that single
    errors can be seen.

    Parameters
    ----------
    labels, predicted : arrays, (inputs,)
        Integers or strings.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    ValueError
        If the arrays are empty, or have different lengths or another number of axes.
    """
    true, found = _labels(labels, predicted)
    if not len(true):
        raise ValueError("labels are empty")
    names, numbers = np.unique(np.concatenate([true, found]), return_inverse=True)
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (numbers[: len(true)], numbers[len(true) :]), 1)
    size = min(12, max(4.0, 1.5 + 0.4 * len(names)))
    ax = new_axes(ax, size, size)
    shade = np.log1p(matrix)
    ax.imshow(shade, cmap="Blues", vmin=0)
    for row, column in np.argwhere(matrix).tolist():
        colour = "white" if shade[row, column] > 0.6 * shade.max() else "black"
        number = f"{matrix[row, column]:,}"
        ax.text(column, row, number, ha="center", va="center", size="small", color=colour)
    name_both_axes(ax, [str(name) for name in names])
    ax.set(xlabel="predicted", ylabel="label")
    return ax


def _pictures(given: Any, name: str) -> NDArray[np.float64]:
    if is_torch_tensor(given):
        given = given.detach().double()  # NumPy reads neither a bfloat16 nor what has a gradient
    try:
        pictures = host_array(given, name).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(given).__name__
        raise ValueError(f"{name} must be an array of numbers, got {kind}: {error}") from error
    if pictures.ndim != 3 or not pictures.size:
        each = "images" if name == "images" else "neurons"
        advice = f"; {name}[:, 0] is one of its channels" if pictures.ndim == 4 else ""
        raise ValueError(
            f"{name} must be ({each}, height, width), none of them 0, got {pictures.shape}{advice}"
        )
    return pictures


def _labels(
    labels: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    true, found = host_array(labels, "labels"), host_array(predicted, "predicted")
    if true.ndim != 1 or true.shape != found.shape:
        raise ValueError(
            f"labels and predicted must be two arrays (inputs,), got {true.shape} and {found.shape}"
        )
    return true, found


def _draw(pictures: NDArray[np.float64], ax: Axes | None, **look: Any) -> Axes:
    """Draw pictures side by side, in as many rows as columns or one less."""
    ax = new_axes(ax, 4, 4)
    ax.imshow(_tiled(pictures), **look)
    ax.set_axis_off()
    return ax


def _tiled(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pictures as one, with a line of NaN around each, which is drawn as nothing."""
    number, height, width = pictures.shape
    columns = math.ceil(math.sqrt(number))
    rows = -(-number // columns)
    padding = ((0, rows * columns - number), (0, 1), (0, 1))
    framed = np.pad(pictures, padding, constant_values=np.nan)
    tiles = framed.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    return tiles.reshape(rows * (height + 1), columns * (width + 1))
