"""PyTorch: the tensors that a model is given, by the names of its arguments."""

import dataclasses
import enum
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn


class Given(NamedTuple):
    """What a model is given in one pass.

    ``tensors``: with the name of the argument that each is, or is part of; "" where it has none.
    ``listed``: the tensors of the first list of tensors, if there is one: each is an input.
    ``flags``: what stands for arguments of which there are few values, each of which may lead to
    other layouts.
    """

    tensors: list[tuple[str, torch.Tensor]]
    listed: list[torch.Tensor]
    flags: tuple[tuple[str, object], ...] = ()

    def by_what_lists_are(self, axis: int, inputs: int | None) -> "Given":
        """Return the same, with the tensors of the list among the others if the list is a batch.

        ``axis``: of inputs in a batch. ``inputs``: how many there are, if labels say so.
        """
        if not self.listed or _are_inputs(self.listed, axis, inputs):
            return self
        batch = [("", tensor) for tensor in self.listed]
        return self._replace(tensors=[*self.tensors, *batch], listed=[])

    @property
    def all_tensors(self) -> list[torch.Tensor]:
        """All of them, also those of the list."""
        return [*(tensor for _, tensor in self.tensors), *self.listed]

    def named(self, name: str) -> torch.Tensor | None:
        """Return the tensor that is an argument."""
        return next((tensor for key, tensor in self.tensors if key == name), None)

    def first_with(self, axis: int, size: int | None) -> torch.Tensor | None:
        """Return the first tensor that has an axis of that number, and of that size if any has."""
        fitting = [t for _, t in self.tensors if -t.ndim <= axis < t.ndim]
        of_size = (t for t in fitting if size is not None and t.shape[axis] == size)
        return next(of_size, next(iter(fitting), None))


def given_to(
    names: Sequence[str],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    *,
    may_load: bool = True,
) -> Given:
    """Return the tensors among the arguments of a call, and inside of them.

    ``names``: of the positional arguments, as far as they are needed. ``may_load``: whether
    mappings are read; see tensors_of().
    """
    only = args[0] if len(args) == 1 and not kwargs else None  # as most models are given
    if isinstance(only, torch.Tensor) and not only.is_nested:
        return Given([(names[0] if names else "", only)], [])
    positional = [(names[i] if i < len(names) else "", value) for i, value in enumerate(args)]
    values = [*positional, *kwargs.items()]
    tensors = [(name, each) for name, value in values for each in tensors_of(value, may_load)]
    lists = (value for _, value in values if isinstance(value, list) and value)
    of_tensors = (each for each in lists if all(isinstance(t, torch.Tensor) for t in each))
    numbered = ((str(i), value) for i, value in enumerate(args))
    marks = ((at, _mark_of_flag(value)) for at, value in (*numbered, *kwargs.items()))
    flags = tuple((at, mark) for at, mark in marks if mark is not None)
    return Given(tensors, next(of_tensors, []), flags)


def _are_inputs(tensors: list[torch.Tensor], axis: int, inputs: int | None) -> bool:
    """Return whether each tensor of a list is an input, such as an image of a detector.

    Else the list is a batch, as a DataLoader makes one of inputs and targets: its tensors are of
    different kinds, or have as many inputs, and axes that those of a single input have not. Labels
    of as many inputs as there are tensors, or as each has, tell more.
    """
    shapes = {tensor.shape for tensor in tensors}
    ndim = tensors[0].ndim
    if len({(tensor.ndim, tensor.dtype) for tensor in tensors}) > 1:
        return False
    sizes = {shape[axis] for shape in shapes} if -ndim <= axis < ndim else {0}
    if len(sizes) > 1:
        return True
    if inputs is not None and (inputs in sizes) != (inputs == len(tensors)):
        return inputs == len(tensors)
    return ndim < 4 and not (ndim == 2 and (len(shapes) > 1 or len(tensors) == 1))


def _mark_of_flag(value: object) -> object:
    """Return what stands for a flag, a small number, a member of an enum, or a mode; else None.

    Numbers may be axes, or numbers of groups; larger ones are sizes, or count steps. Not any text:
    each that a model reads would be a value of its own. Members of enums, and strings of classes of
    users, may have no hash.
    """
    if isinstance(value, enum.Enum):
        return type(value), value.name
    if isinstance(value, str):
        text = str.__str__(value)
        return text if text.isidentifier() else None
    if isinstance(value, bool):
        return value
    is_small = isinstance(value, int) and abs(value) <= _LARGEST_FLAG
    return ("number", value) if is_small else None


_LARGEST_FLAG = 8


def parameters_of(module: nn.Module) -> tuple[list[str], bool]:
    """Return the names of a module's arguments, and whether it takes others, too."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return [], True
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind not in several]
    return names, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def tensors_of(value: object, may_load: bool = True) -> Iterator[torch.Tensor]:
    """Yield the tensors in mappings, tuples and dataclasses, but for those without sizes.

    Not those in lists of tensors alone: there each may be an input of its own. Unless it
    ``may_load`` them, those that mappings hold: to read an open file would load it, for a call that
    may run no layer.
    """
    waiting, seen = [value], dict[int, object]()  # objects may contain themselves
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            if not _is_without_sizes(value):
                yield value
        elif id(value) not in seen:
            seen[id(value)] = value
            waiting += reversed(_parts_of(value, may_load))


def _is_without_sizes(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a nested one whose shape is an error; jagged ones have a shape."""
    return tensor.is_nested and tensor.layout is torch.strided


def _parts_of(value: object, may_load: bool) -> list[object]:
    if isinstance(value, (dict, MappingProxyType)) or (may_load and isinstance(value, Mapping)):
        return list(value.values())
    if isinstance(value, Mapping):
        return list(getattr(value, "__dict__", {}).values())
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, list):
        return _parts_of_list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return [getattr(value, field.name, None) for field in fields]  # some are set later
    return []


def _parts_of_list(values: list[object]) -> list[object]:
    """Return the tensors and mappings of a list that has tensors and others: a DataLoader's batch.

    None where those are lists with tensors: nothing tells what these are.
    """
    is_tensor = [isinstance(value, torch.Tensor) for value in values]
    lists = (value for value in values if isinstance(value, (list, tuple)))
    is_nested = any(isinstance(part, torch.Tensor) for each in lists for part in each)
    if is_nested or all(is_tensor) or not any(is_tensor):
        return []
    return [value for value in values if isinstance(value, (torch.Tensor, Mapping))]
