"""Calls of torch functions, and the rules that say where their outputs' axes come from.

A rule takes a Call and returns the axes of its first output, a list with those of each output, or
None if it cannot tell. A function without a rule drops what is known: a default such as "same
shape, same axes" would be wrong for ``cdist`` of as many rows as columns.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from .factors import Axes, size_of


@dataclass
class Call:
    """A call of a torch function that has returned.

    ``known``: returns the axes of a tensor, or None. ``is_lost``: whether nothing is known of a
    tensor that was computed from neurons. ``is_weight``: whether a tensor is a parameter, or was
    computed from parameters alone. ``has_lost_inputs``: whether it was computed from inputs, and is
    not known to have them. ``tensors``: all that are read.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]
    known: Callable[[Any], Axes | None]
    is_lost: Callable[[Any], bool]
    is_weight: Callable[[Any], bool]
    has_lost_inputs: Callable[[Any], bool]
    tensors: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        given = (value for name, value in self.kwargs.items() if name != "out")
        self.tensors = list(tensors_in((*self.args, *given)))

    @property
    def out(self) -> Tensor:
        tensor: Tensor = self.outputs[0]
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.out.shape)

    @property
    def input(self) -> Any:
        return self.argument(0, "input", "self", "query")

    @property
    def input_axes(self) -> Axes | None:
        return self.known(self.input)

    def argument(self, position: int, *names: str) -> Any:
        if len(self.args) > position:
            return self.args[position]
        return next((self.kwargs[name] for name in names if name in self.kwargs), None)

    def all_known(self) -> list[Axes]:
        return [axes for tensor in self.tensors if (axes := self.known(tensor)) is not None]

    @property
    def is_of_dtensor(self) -> bool:
        """Whether a DTensor makes the call that is followed now, to exchange its parts with ranks.

        Then the parts are of the same inputs, or their axis counts all of them. What a model
        exchanges, joins or splits by itself may be of any inputs.
        """
        return self.caller("torch.distributed.tensor.") is not None

    def caller(self, beginning: str) -> FrameType | None:
        """Return the frame of the part of torch that makes the call which is followed now.

        ``beginning``: of its module's name. None if no such part does.
        """
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = str(frame.f_globals.get("__name__"))
            if name.startswith(beginning):
                return frame
            if name.partition(".")[0] not in ("torch", _OWN_PACKAGE):
                return None
            frame = frame.f_back
        return None


_OWN_PACKAGE = __name__.partition(".")[0]
Result = Axes | Sequence[Axes | None] | None
Rule = Callable[[Call], Result]
RULES: dict[str, Rule] = {}


def rule(names: str) -> Callable[[Rule], Rule]:
    """Register the rule of functions, by their names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


def tensors_in(values: Iterable[Any]) -> Iterable[Tensor]:
    """Yield the tensors in nested tuples and lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)


def name_of(function: Any) -> str:
    """Return the name that rules have; of an operator of another library, with its library."""
    if isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        library, operator, *_ = str(function).split(".")
        if library == "quantized":
            return _without_quantization(operator) or f"{library}.{operator}"
        return operator if library == "aten" else f"{library}.{operator}"
    name: str = getattr(function, "__name__", "")
    if getattr(function, "__module__", None) == "_operator":  # in compiled graphs
        return f"__{name.strip('_')}__"
    if name in ("__get__", "__set__"):
        attribute = getattr(getattr(function, "__self__", None), "__name__", "")
        if name == "__set__":
            return f"{attribute}="
        return attribute if attribute in _PROPERTIES else name
    return name


def _without_quantization(operator: str) -> str:
    """Return the name of the function that a quantised operator begins with; "" if none has a rule.

    >>> _without_quantization("conv2d_relu"), _without_quantization("leaky_relu")
    ('conv2d', 'leaky_relu')
    """
    name = operator.removeprefix("quantized_")
    while name not in RULES:
        shorter = next((name.removesuffix(e) for e in _ENDINGS if name.endswith(e)), None)
        if shorter is None:
            return ""
        name = shorter
    return name


# What quantised operators do after, or besides, the function that they are named for.
_ENDINGS = (
    *("_leaky_relu", "_relu", "_tanh", "_scalar", "_add"),
    *("_dynamic", "_fp16", "_byte", "_4bit", "_2bit"),
)
_PROPERTIES = {"T", "mT", "H", "mH", "data", "real", "imag"}


def axes_of_outputs(call: Call, follow: Rule | None) -> list[Axes | None]:
    """Return the axes of each output of a call; None where nothing is known."""
    found = None if follow is None else follow(call)
    if found is None:
        return [None] * len(call.outputs)
    if isinstance(found, tuple):  # the axes of the first output
        found = [found]
    missing = [None] * (len(call.outputs) - len(found))
    return [
        axes if axes is not None and fits(axes, output) else None
        for axes, output in zip([*found, *missing], call.outputs, strict=False)
    ]


def fits(axes: Axes, output: Any) -> bool:
    if isinstance(output, Tensor) and output.is_nested:
        return len(axes) == output.ndim  # the axes are those of the padded tensor
    return isinstance(output, Tensor) and tuple(map(size_of, axes)) == tuple(output.shape)
