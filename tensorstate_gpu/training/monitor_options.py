"""The options of a monitor as keyword arguments, which callbacks pass on, and their checks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, get_args

from tensorstate_gpu._arguments import choice, listed, positive_integer
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._capturing.attachment import Method
from tensorstate_gpu._capturing.matching import check_patterns
from tensorstate_gpu._capturing.options import CaptureOptions, NeuronAxis
from tensorstate_gpu._capturing.sampling import EVAL, TRAIN


class MonitorKeywords(TypedDict, total=False):
    """As for StateMonitor, which describes them."""

    every_n_steps: int
    states_per_step: int | None
    window: int | None
    phases: Sequence[str]
    groups: int | None
    stage_rows: int | None
    method: Method
    threshold: object
    firing: FiringFunction | None
    neuron_axis: NeuronAxis | None


def checked_sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the options that say which passes are captured. Raises for invalid ones."""
    given = {name: check for name, check in _SAMPLING.items() if name in options}
    return {name: check(options[name], name) for name, check in given.items()}


def check_without_model(attach_to: object, exclude: object, options: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError for arguments that are wrong whatever the model is.

    So a callback raises when it is made, and not hours later, when the training begins.
    """
    known = MonitorKeywords.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}; there are {', '.join(known)}")
    if attach_to is not None:
        check_patterns(attach_to, "attach_to")
    check_patterns(exclude, "exclude")
    choice(options.get("method", "after"), "method", get_args(Method))
    checked_sampling(options)
    capturing = {name: given for name, given in options.items() if name in _CAPTURING}
    CaptureOptions(keep="counts", **capturing)


def _positive_or_none(value: object, argument: str) -> int | None:
    return None if value is None else positive_integer(value, argument)


def _checked_phases(phases: object, argument: str) -> tuple[str, ...]:
    # A str alone would be read as its letters.
    given = [None] if isinstance(phases, str) else listed(phases, argument, "str")
    if not all(isinstance(each, str) and each in (TRAIN, EVAL) for each in given):
        raise ValueError(
            f'{argument} must be of "train" and "eval", got {phases!r}; others are those of '
            "during()"
        )
    return tuple(given)


_SAMPLING: dict[str, Callable[[Any, str], Any]] = {
    "every_n_steps": positive_integer,
    "states_per_step": _positive_or_none,
    "window": _positive_or_none,
    "phases": _checked_phases,
}
_CAPTURING = ("groups", "stage_rows", "threshold", "firing", "neuron_axis")
