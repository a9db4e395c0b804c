"""CaptureOptions: the options of a capture point, validated.

To add an option, add it to both classes here and use it: ``capture``, ``build_efficiency_model``,
capture points and bridges pass all options on together.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, TypedDict, TypeVar

from tensorstate_gpu._arguments import choice, integer, positive_integer
from tensorstate_gpu._arrays.firing_function import (
    FiringFunction,
    checked_firing_function,
    picklable_function,
)
from tensorstate_gpu._arrays.thresholds import keep_threshold, plain_threshold
from tensorstate_gpu._layers.instance_groups import checked_groups
from tensorstate_gpu._layers.memory_rows import check_compressor

KEEP = ("states", "counts")
WHEN = ("train", "eval")

Function = TypeVar("Function", bound=Callable[..., Any])
# The same axis for every layer, an axis by the name of a layer or a glob over names, or a function
# (name, layer) -> axis or None.
NeuronAxis = int | Mapping[str, int] | Callable[[str, Any], int | None]


Keep = Literal["states", "counts"]
# Which passes count: those in training mode, those that are not, or a function of the model.
When = Literal["train", "eval"] | Callable[[Any], bool]


# For names that are tried as options, and are none.
_ADVICE = {"labels": ". Labels are those of a pass: with run.labels(y): model(x)"}


class CaptureKeywords(TypedDict, total=False):
    """The options as keyword arguments; `CapturePoint` documents them."""

    keep: Keep
    threshold: Any
    firing: FiringFunction | None
    neuron_axis: NeuronAxis | None
    batch_axis: int
    mask: str | Literal[True] | None
    merge_calls: bool
    when: When | None
    compressor: Any
    groups: int | None
    stage_rows: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class CaptureOptions:
    """The options of a capture point. Raises TypeError or ValueError if one is invalid.

    Pickling raises PicklingError for a firing function that no module has under its name.
    """

    keep: Keep = "states"
    threshold: Any = 0.0
    firing: FiringFunction | None = None
    neuron_axis: NeuronAxis | None = None
    batch_axis: int = 0
    mask: str | Literal[True] | None = None
    merge_calls: bool = False
    when: When | None = None
    compressor: Any = None
    groups: int | None = None
    stage_rows: int | None = None
    disk_path: Any = None
    # In a store of several runs, in whose passes the layer runs: capture() gives the model's id.
    run: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        choice(self.keep, "keep", KEEP)
        if self.keep == "counts" and self.compressor is not None:
            raise ValueError('compressor is for keep="states": counts are not compressed')
        if not isinstance(self.merge_calls, bool):
            raise TypeError(f"merge_calls must be a bool, got {self.merge_calls!r}")
        if not (self.mask is None or self.mask is True or isinstance(self.mask, str)):
            raise TypeError(
                "mask must name an argument of the model, or be True for Keras' own mask, got "
                f"{type(self.mask).__name__}; run.labels(mask=...) takes a mask itself"
            )
        is_named = isinstance(self.when, str) and self.when in WHEN
        if not (self.when is None or is_named or callable(self.when)):
            raise ValueError(f"when must be one of {WHEN} or a function, got {self.when!r}")
        if self.compressor is not None:
            check_compressor(self.compressor)
        checked = {
            "threshold": keep_threshold(self.threshold),
            "firing": checked_firing_function(self.firing, self.threshold),
            "neuron_axis": _checked_axes(self.neuron_axis),
            "batch_axis": integer(self.batch_axis, "batch_axis"),
            "groups": None if self.groups is None else checked_groups(self.groups),
            "stage_rows": self._checked_stage_rows(),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _checked_stage_rows(self) -> int | None:
        """Return the rows of a stage. Raises ValueError for what no stage can be combined with."""
        if self.stage_rows is None:
            return None
        not_staged = {
            "when": self.when,
            "mask": self.mask,
            "storage_path": self.disk_path,
            "firing": self.firing,
            "threshold": None if isinstance(self.threshold, (int, float)) else self.threshold,
        }
        for name, given in not_staged.items():
            if given is not None:
                raise ValueError(
                    "stage_rows= takes one int or float as threshold, and no when=, mask=, firing= "
                    f"or storage_path=; got {name}={given!r}"
                )
        return positive_integer(self.stage_rows, "stage_rows")

    # Not __getstate__: until Python 3.11.3, a dataclass with slots puts its own in its place.
    def __reduce__(self) -> tuple[Any, ...]:
        changed = {
            "firing": picklable_function(self.firing),
            "when": None if callable(self.when) else self.when,  # a copy is attached to no model
        }
        names = (field.name for field in dataclasses.fields(self))
        return type(self), tuple(changed.get(name, getattr(self, name)) for name in names)

    def __deepcopy__(self, memo: dict[int, Any]) -> "CaptureOptions":
        return self  # it never changes, and functions that cannot be pickled can stay

    @classmethod
    def from_arguments(
        cls, disk_path: Any, keywords: CaptureKeywords, others: Iterable[str] = ()
    ) -> "CaptureOptions":
        """Return the options for a user's arguments. Raises TypeError for unknown ones.

        ``others``: what else the function takes by name, for that error.
        """
        known = CaptureKeywords.__annotations__
        for name in keywords:
            if name not in known:
                there_are = ", ".join([*known, *others])
                advice = _ADVICE.get(name, "")
                raise TypeError(f"unknown option {name!r}; there are {there_are}{advice}")
        return cls(disk_path=disk_path, **keywords)

    def of_layer(self, name: str, layer: Any) -> "CaptureOptions":
        """Return the options of one layer: ``neuron_axis`` may differ between layers."""
        given = self.neuron_axis
        if given is None or isinstance(given, int):
            return self
        if callable(given):
            axis = given(name, layer)
        else:
            axis = next((given[key] for key in given if _matches(key, name)), None)
        return dataclasses.replace(self, neuron_axis=axis)

    def under_other_names(self, others: Mapping[str, Sequence[str]]) -> "CaptureOptions":
        """Return options in which axes that are given by name hold for first names of layers.

        ``others``: the other names of each layer, by its first name.
        """
        given = self.neuron_axis
        if not isinstance(given, Mapping):
            return self
        named = {
            first: axis
            for first, names in others.items()
            for key, axis in reversed([*given.items()])
            if any(_matches(key, name) for name in names)
        }
        return dataclasses.replace(self, neuron_axis={**named, **given})

    def check_layers(self, names: Collection[str]) -> None:
        """Raise ValueError if ``neuron_axis`` names layers that are not captured."""
        if isinstance(self.neuron_axis, Mapping):
            for key in self.neuron_axis:
                if not any(_matches(key, name) for name in names):
                    raise ValueError(
                        f"neuron_axis: no layer that is captured has the name {key!r}; there are "
                        f"{', '.join(names)}"
                    )

    def differs_from(self, existing: "CaptureOptions") -> bool:
        """Return whether these options ask for something else than those of a capture point."""
        if not isinstance(self.neuron_axis, int):  # then it depends on the layer
            existing = dataclasses.replace(existing, neuron_axis=self.neuron_axis)
        paths = [None if o.disk_path is None else str(o.disk_path) for o in (self, existing)]
        return (
            paths[0] != paths[1]
            or dataclasses.replace(self, disk_path=existing.disk_path) != existing
        )

    def firing_rule(self) -> dict[str, Any]:
        """Return when a neuron fires, as JSON: threshold or firing."""
        if self.firing is not None:
            return {"firing": self.firing.__qualname__}
        return {"threshold": plain_threshold(self.threshold)}


def _checked_axes(given: Any) -> NeuronAxis | None:
    if isinstance(given, Mapping):
        return {str(name): integer(axis, f"neuron_axis[{name!r}]") for name, axis in given.items()}
    return given if given is None or callable(given) else integer(given, "neuron_axis")


def _matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


def takes_options(function: Function) -> Function:
    """Show the options in the signature of a function that takes them as ``**options``."""
    signature = inspect.signature(function)
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
        )
        for field in dataclasses.fields(CaptureOptions)
        if field.name in CaptureKeywords.__annotations__
    ]
    function.__signature__ = signature.replace(parameters=[*parameters, *options])  # type: ignore[attr-defined]
    return function
