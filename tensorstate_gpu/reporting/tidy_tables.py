"""Tidy tables of a report: columns of plain values, as Arrow tables or pandas frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tensorstate_gpu.information import ClassDivergences
from tensorstate_gpu.neurons.rates import entropies_of
from tensorstate_gpu.reporting.label_table import LabelTable
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.layer_report import LayerReport

if TYPE_CHECKING:
    import pandas
    import pyarrow


@runtime_checkable
class HasMeasures(Protocol):
    """What figures need of a Report, which imports this module."""

    @property
    def layers(self) -> tuple[LayerReport, ...]: ...
    @property
    def profiles(self) -> tuple[LayerProfile, ...]: ...
    @property
    def by_label(self) -> tuple[LabelTable, ...]: ...


def what_came(given: object) -> str:
    """Return what was given instead of a report, and what makes one of it."""
    makes_one = "; its report() makes one" if callable(getattr(given, "report", None)) else ""
    is_layer = callable(getattr(given, "histogram", None))
    has_one = "; the report() of its run or store has it" if is_layer else ""
    return f"a {type(given).__name__}{makes_one or has_one}"


Column = Sequence[Any] | np.ndarray[tuple[int], np.dtype[np.generic]]
Columns = Mapping[str, Column]


def layer_columns(layers: Sequence[LayerReport]) -> Columns:
    """A row for each layer, with all its measures."""
    names = [field.name for field in dataclasses.fields(LayerReport)]
    columns = {name: [getattr(layer, name) for layer in layers] for name in names}
    return columns | {"other_names": [", ".join(layer.other_names) for layer in layers]}


def neuron_columns(profiles: Sequence[LayerProfile]) -> Columns:
    """A row for each neuron: how often it fires, also as a share, and its own entropy in bits."""
    rates = _joined([profile.firing / profile.states for profile in profiles]).astype(np.float64)
    return {
        "layer": _repeated([(profile.layer, len(profile.firing)) for profile in profiles]),
        "neuron": _joined([np.arange(len(profile.firing)) for profile in profiles]),
        "fires": _joined([profile.firing for profile in profiles]),
        "rate": rates,
        "entropy": entropies_of(rates),
    }


def label_columns(tables: Sequence[LabelTable]) -> Columns:
    """A row for each label of each layer."""
    tables = [table for table in tables if table.missing is None]
    measures = layer_columns([each for table in tables for each in table.measures])
    return {
        "layer": _repeated([(table.layer, len(table.labels)) for table in tables]),
        "label": _of_one_kind([label for table in tables for label in table.labels]),
        **{name: measures[name] for name in _OF_LABELS},
    }


def _of_one_kind(labels: list[int | str]) -> list[int] | list[str]:
    """Return labels as texts if any of them is one: layers may differ in their labels."""
    numbers = [label for label in labels if not isinstance(label, str)]
    return numbers if len(numbers) == len(labels) else [str(label) for label in labels]


# The others are those of the layer, whatever the label.
_OF_LABELS = (
    *("states", "distinct", "entropy", "efficiency", "ceiling", "coverage", "quality", "slope"),
    *("estimate", "standard_error", "lower", "upper"),
)


def label_pair_columns(tables: Sequence[LabelTable]) -> Columns:
    """A row for each two labels of each layer whose divergences were computed, in either order."""
    known = [(table.layer, each) for table in tables if (each := table.divergences) is not None]
    parts = [divergence_columns(each) for _, each in known]
    rows = [(layer, len(part["label"])) for (layer, _), part in zip(known, parts, strict=True)]
    pairs: dict[str, list[Any]] = {
        name: [label for part in parts for label in part[name]] for name in ("label", "other")
    }
    labels = {name: _of_one_kind(each) for name, each in pairs.items()}
    measures = {
        name: _joined([np.asarray(part[name]) for part in parts]) for name in _OF_DIVERGENCES
    }
    return {"layer": _repeated(rows), **labels, **measures}


_OF_DIVERGENCES = ("divergence", "null", "p_value")


def divergence_columns(found: ClassDivergences) -> Columns:
    """A row for each two classes, in either order."""
    if not isinstance(found, ClassDivergences):
        raise TypeError(f"found must be ClassDivergences, got {type(found).__name__}")
    names = found.labels.tolist()
    places = np.nonzero(~np.eye(len(names), dtype=bool))
    ones, others = ([names[place] for place in each] for each in places)
    measures = {name: getattr(found, name)[places] for name in _OF_DIVERGENCES}
    return {"label": ones, "other": others, **measures}


def repetition_columns(profiles: Sequence[LayerProfile]) -> Columns:
    """How many distinct states of each layer occurred how often, seldom ones first."""
    each = []
    for profile in profiles:
        times, index = np.unique(profile.repetitions.counts, return_inverse=True)
        distinct = np.zeros(len(times), np.int64)
        np.add.at(distinct, index, profile.repetitions.states)
        each.append((times, distinct))
    return {
        "layer": _repeated(
            [
                (profile.layer, len(times))
                for profile, (times, _) in zip(profiles, each, strict=True)
            ]
        ),
        "times": _joined([times for times, _ in each]),
        "distinct": _joined([distinct for _, distinct in each]),
    }


def _joined(
    arrays: list[np.ndarray[tuple[int], np.dtype[np.generic]]],
) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _repeated(names: list[tuple[str, int]]) -> list[str]:
    return [name for name, times in names for _ in range(times)]


def as_arrow(columns: Columns) -> pyarrow.Table:
    """Return columns as an Arrow table."""
    from tensorstate_gpu._states.arrow_library import pa

    return pa.table(
        {name: pa.array(_valid(each), _TYPES.get(name)) for name, each in columns.items()}
    )


def _valid(column: Column) -> Column:
    """Return a column whose texts Arrow can hold: of half of a character, what Python writes."""
    if isinstance(column, np.ndarray):
        return column
    return [
        each.encode(errors="backslashreplace").decode() if isinstance(each, str) else each
        for each in column
    ]


# Of columns whose values may all be None, or that may have none.
_TYPES = {
    **dict.fromkeys(("phase", "measure", "layer"), "string"),
    "step": "int64",
    "value": "double",
    **dict.fromkeys(("axis", "passes", "model_passes"), "int64"),
    **dict.fromkeys(("estimate", "standard_error", "lower", "upper"), "double"),
    **dict.fromkeys(_OF_DIVERGENCES, "double"),
    "axis_origin": "string",
}


def as_pandas(columns: Columns) -> pandas.DataFrame:
    """Return columns as a pandas frame."""
    from tensorstate_gpu._states.arrow_library import to_pandas

    return to_pandas(as_arrow(columns))
