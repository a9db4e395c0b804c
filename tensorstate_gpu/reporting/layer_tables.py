"""Tidy tables of one layer: of each two labels, of each two neurons, and of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information import ClassDivergences
from tensorstate_gpu.neurons import correlations
from tensorstate_gpu.neurons.samples import States
from tensorstate_gpu.reporting.positions import Positions, place_of, states_at_positions
from tensorstate_gpu.reporting.tidy_tables import Columns, as_arrow, as_pandas, divergence_columns

if TYPE_CHECKING:
    import pandas
    import pyarrow


def divergences_to_pandas(found: ClassDivergences) -> pandas.DataFrame:
    """Return how much the states of each two classes differ, with a row for each two of them.

    Columns: ``label`` and ``other``, each two in either order; ``divergence`` and ``null`` in bits;
    ``p_value``.

    Parameters
    ----------
    found : ClassDivergences
        What `information.class_divergences` returns.

    Raises
    ------
    ImportError
        If pandas or pyarrow is not installed.
    """
    return as_pandas(divergence_columns(found))


def divergences_to_arrow(found: ClassDivergences) -> pyarrow.Table:
    """Return the table of divergences_to_pandas()."""
    return as_arrow(divergence_columns(found))


def correlations_to_pandas(
    states: States | NDArray[np.float64], neurons: int | None = None
) -> pandas.DataFrame:
    """Return how often each two neurons fire together, with a row for each two of them.

    Columns: ``neuron`` and ``other``, each two in either order and each with itself;
    ``correlation``, from -1 to 1, NaN if one of them never changes.

    Parameters
    ----------
    states, neurons
        As for `neurons.correlations`, or the matrix that it has returned.

    Raises
    ------
    ImportError
        If pandas or pyarrow is not installed.
    TypeError, ValueError
        As for `neurons.correlations`; or if a matrix is not square.

    Examples
    --------
    >>> import numpy as np
    >>> packed = np.array([[0], [1], [3], [3]], np.uint8)
    >>> correlations_to_pandas(packed, neurons=2)["correlation"].round(2).tolist()
    [1.0, 0.58, 0.58, 1.0]
    """
    return as_pandas(correlation_columns(states, neurons))


def correlations_to_arrow(
    states: States | NDArray[np.float64], neurons: int | None = None
) -> pyarrow.Table:
    """Return the table of correlations_to_pandas()."""
    return as_arrow(correlation_columns(states, neurons))


def firing_map_to_pandas(
    layer: Positions, input_number: int = 0, neuron: int | None = None
) -> pandas.DataFrame:
    """Return where a layer fires for one input, with a row for each position.

    Columns: ``y`` and ``x`` of the position, and ``share``: that of the neurons that fire there,
    from 0 to 1. Of one neuron, ``fires`` instead: whether it does.

    Parameters and errors as for `plot_firing_map`; also ImportError if pandas or pyarrow is not
    installed.
    """
    return as_pandas(position_columns(layer, input_number, neuron))


def firing_map_to_arrow(
    layer: Positions, input_number: int = 0, neuron: int | None = None
) -> pyarrow.Table:
    """Return the table of firing_map_to_pandas()."""
    return as_arrow(position_columns(layer, input_number, neuron))


def correlation_columns(states: States | NDArray[np.float64], neurons: int | None) -> Columns:
    """Return the table of correlations_to_pandas(), by its columns."""
    given = isinstance(states, np.ndarray) and states.dtype.kind == "f"
    matrix = np.asarray(states) if given else correlations(states, neurons)
    if matrix.ndim != 2 or len(set(matrix.shape)) > 1:
        raise ValueError(f"a matrix of correlations must be square, got {matrix.shape}")
    ones, others = np.indices(matrix.shape).reshape(2, -1)
    return {"neuron": ones, "other": others, "correlation": matrix.ravel()}


def position_columns(layer: Positions, input_number: int, neuron: int | None) -> Columns:
    """Return the table of firing_map_to_pandas(), by its columns."""
    if not hasattr(layer, "spatial_shape"):
        kind, advice = type(layer).__name__, ""
        if isinstance(layer, Mapping):
            advice = ": choose one by its name"
        elif callable(getattr(layer, "to_html", None)):
            advice = ": choose one of its run"
        raise TypeError(f"layer must be a capture point or a layer of a Store, got {kind}{advice}")
    states = states_at_positions(layer, input_number)
    ys, xs = np.indices(states.shape[:2]).reshape(2, -1)
    if neuron is None:
        return {"y": ys, "x": xs, "share": states.mean(axis=2).ravel()}
    place = place_of(neuron, states.shape[2], "neuron", layer.name)
    return {"y": ys, "x": xs, "fires": states[:, :, place].ravel()}
