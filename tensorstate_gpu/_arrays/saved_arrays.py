"""Arrays in states for checkpoints: as torch tensors, which torch.load(weights_only=True) reads.

SavedPart reads such a state, and checks what is in it.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.frameworks import as_tensor

StateT = TypeVar("StateT")


def tensors_for_arrays(state: StateT) -> StateT:
    """Return a state, in dicts and lists, with torch tensors for its NumPy arrays."""
    return cast(StateT, _mapped(state, _tensor_for))


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


class SavedPart:
    """A part of a state with names, as it was loaded; what is read from it is checked.

    ``place``: where in the state it is, for errors. Each method raises ValueError unless there is
    what it reads.
    """

    def __init__(self, value: object, place: str = "state") -> None:
        if not isinstance(value, Mapping):
            raise _damaged(place, "a dict", value)
        self._values, self.place = value, place

    def _value(self, name: str) -> object:
        if name not in self._values:
            raise ValueError(f"state is incomplete: {self.place} has no {name!r}")
        return self._values[name]

    def _place_of(self, name: str) -> str:
        return f"{self.place}[{name!r}]"

    def integer(self, name: str, least: int = 0) -> int:
        """Return an integer, which is not below ``least``."""
        value = self._value(name)
        try:
            number = integer(value, name)
        except TypeError:
            number = least - 1
        if number < least:
            raise _damaged(self._place_of(name), f"an integer from {least}", value)
        return number

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._value(name)
        if not isinstance(value, str):
            raise _damaged(self._place_of(name), "a string", value)
        return value

    def array(self, name: str, dtype: DTypeLike, ndim: int) -> NDArray[Any]:
        """Return an array, from a tensor on whatever device."""
        found = _array_for(self._value(name))
        if not isinstance(found, np.ndarray) or (found.dtype, found.ndim) != (dtype, ndim):
            raise _damaged(self._place_of(name), f"{np.dtype(dtype)} with {ndim} axes", found)
        return found

    def part(self, name: str) -> "SavedPart":
        """Return a part of this one."""
        return SavedPart(self._value(name), self._place_of(name))

    def parts(self) -> dict[str, "SavedPart"]:
        """Return all that is in it, which are parts."""
        return {name: self.part(name) for name in self._values}

    def entries(self, name: str) -> list[Any]:
        """Return the entries of a list."""
        value = self._value(name)
        if not isinstance(value, list):
            raise _damaged(self._place_of(name), "a list", value)
        return value

    def listed_parts(self, name: str) -> list["SavedPart"]:
        """Return the parts in a list."""
        place = self._place_of(name)
        return [SavedPart(each, f"{place}[{i}]") for i, each in enumerate(self.entries(name))]


def _damaged(place: str, expected: str, found: object) -> ValueError:
    what = type(found).__name__
    if isinstance(found, np.ndarray):
        what = f"{found.dtype} of shape {found.shape}"
    elif isinstance(found, int):
        what = repr(found)
    return ValueError(f"state is damaged: {place} must be {expected}, got {what}")
