"""Keras 3: the tensors of structures, and which of them can be captured."""

from typing import Any

import keras

from tensorstate_gpu._arrays.elements import ELEMENT_TYPES, accepted_types
from tensorstate_gpu._capturing.first_array import first_array


def first_tensor(value: object) -> Any:
    """Return the tensor or symbolic tensor to capture; see first_array()."""
    return first_array(value, axes_of)


def axes_of(value: object) -> int | None:
    """Return how many axes a tensor has; None for other objects."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return None
    try:
        return len(value.shape)
    except ValueError:  # TensorFlow does not know it
        return 1


def has_no_neurons(tensor: Any) -> bool:
    """Return whether a tensor of known axes has none for neurons, beside that of the inputs."""
    return getattr(tensor.shape, "rank", 0) is not None and len(tensor.shape) < 2


def unsupported_reason(tensor: Any) -> str | None:
    """Return why a tensor or symbolic tensor cannot be captured, or None if it can."""
    kind = type(tensor).__name__
    if isinstance(tensor, keras.KerasTensor) and tensor.sparse:
        kind = "a sparse tensor, of class SparseTensor,"
    if "Ragged" in kind or "Sparse" in kind or "BCOO" in kind:
        return f"{kind} cannot be captured, only dense tensors: convert it first"
    if getattr(tensor.shape, "rank", 0) is None:
        return "the graph does not know how many axes the tensor has: tf.ensure_shape() tells it"
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype not in ELEMENT_TYPES:
        return f"tensor of {dtype}; accepted are {accepted_types()}"
    if has_no_neurons(tensor):
        return f"states need an axis of instances and one of neurons, got shape {tensor.shape}"
    return None
