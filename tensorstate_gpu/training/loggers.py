"""Loggers: hands scalars to what draws charts, by the method that it has."""

from collections.abc import Callable, Mapping
from typing import Protocol, cast


class _Scalars(Protocol):
    """TensorBoard's SummaryWriter, and what is like it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...


class _Metrics(Protocol):
    """The loggers of Lightning."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> object: ...


class _Log(Protocol):
    """A run of Weights & Biases."""

    def log(self, data: Mapping[str, float], step: int) -> object: ...


def check_sink(sink: object) -> None:
    """Raise TypeError for an object that takes no scalars."""
    if not (callable(sink) or any(hasattr(sink, name) for name in _METHODS)):
        raise TypeError(
            f"sink must have {', '.join(_METHODS)}, or be a function (scalars, step), got "
            f"{type(sink).__name__}"
        )


def hand_to(sink: object, scalars: Mapping[str, float], step: int) -> None:
    """Hand scalars to a sink; raises what the sink raises."""
    if hasattr(sink, "add_scalar"):
        for name, value in scalars.items():
            cast(_Scalars, sink).add_scalar(name, value, global_step=step)
    elif hasattr(sink, "log_metrics"):
        cast(_Metrics, sink).log_metrics(scalars, step=step)
    elif hasattr(sink, "log"):
        cast(_Log, sink).log(scalars, step=step)
    else:
        cast(Callable[[Mapping[str, float], int], object], sink)(scalars, step)


_METHODS = ("add_scalar", "log_metrics", "log")
