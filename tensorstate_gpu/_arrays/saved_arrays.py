"""Arrays in states for checkpoints: as torch tensors, which torch.load(weights_only=True) reads."""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import numpy as np

from tensorstate_gpu._arrays.frameworks import as_tensor

StateT = TypeVar("StateT")


def tensors_for_arrays(state: StateT) -> StateT:
    """Return a state, in dicts and lists, with torch tensors for its NumPy arrays."""
    return cast(StateT, _mapped(state, _tensor_for))


def arrays_for_tensors(state: StateT) -> StateT:
    """Return a state with NumPy arrays for its tensors, on whatever device they are."""
    return cast(StateT, _mapped(state, _array_for))


def _tensor_for(value: object) -> object:
    return as_tensor(value) if isinstance(value, np.ndarray) else value


def _array_for(value: object) -> object:
    return value.cpu().numpy() if hasattr(value, "cpu") else value


def _mapped(state: object, change: Callable[[object], object]) -> object:
    if isinstance(state, Mapping):
        return {name: _mapped(value, change) for name, value in state.items()}
    if isinstance(state, list):
        return [_mapped(value, change) for value in state]
    return change(state)
