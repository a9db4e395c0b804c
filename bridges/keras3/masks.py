"""Keras 3: Keras' own masks of tensors, and which rows a mask keeps."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.masking import get_keras_mask
from numpy.typing import NDArray

from tensorstate_gpu._capturing.pass_notes import Mask
from tensorstate_gpu._layers.batches import Batches, ragged


def kept_rows(
    mask: Mask, sizes: Sequence[int], instances: int
) -> tuple[NDArray[np.bool_], Batches] | str:
    """Return of each row whether a mask keeps it, and whose the kept rows are; or why it does not.

    ``sizes``: of the axes beside inputs and neurons, of which the first counts positions.
    """
    if len(mask) != instances:
        return f"it has {instances} inputs, the mask {len(mask)}"
    if not sizes or sizes[0] != mask.shape[1]:
        positions = sizes[0] if sizes else "no"
        return f"it has {positions} positions, the mask {mask.shape[1]}"
    kept = np.repeat(mask, math.prod(sizes[1:]), axis=1)
    return kept.ravel(), ragged(kept.sum(1).tolist())


def own_mask(layer: Any, inputs: Any, outputs: Any = None) -> Any:
    """Return Keras' own mask of the first tensor that a layer takes, or returns; None without."""
    before = keras.tree.map_structure(get_keras_mask, inputs)
    if outputs is None:
        return _first(before)
    there = _first(keras.tree.map_structure(get_keras_mask, outputs))
    if there is not None or not layer.supports_masking:
        return there
    return _first(layer.compute_mask(inputs, before))  # as Keras does after this call


def _first(masks: Any) -> Any:
    return next(iter(keras.tree.flatten(masks)), None)
