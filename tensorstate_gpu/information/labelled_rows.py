"""LabelledRows: which state each row has, and of which instance (model input) and class it is."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu._arrays.label_arrays import validated_labels

Ints = NDArray[np.int64]
Instances = ArrayLike | Literal["equal"] | None


@runtime_checkable
class HasInstances(Protocol):
    """An object that knows the instances of its rows: a capture point, or a layer of a store."""

    def rows_with_instances(self) -> tuple[NDArray[np.uint8], Ints, int, NDArray[Any] | None]:
        """Return the packed rows, the instance of each, the number of instances, and their units.

        None for the last if no units were given.
        """


class LabelledRows(NamedTuple):
    """Rows of instances, each of which has a label and one row or more.

    Where units of instances were given, each unit counts as one instance: its rows depend on each
    other, so that its label is permuted as a whole.

    ``states``, ``instances``, (rows,): numbers from 0. ``classes``, (instances,): places in
    ``names``, (classes,), which are sorted, and of which some may have no rows.
    """

    states: Ints
    instances: Ints
    classes: Ints
    names: NDArray[np.generic]

    @classmethod
    def of(
        cls, states: ArrayLike | HasInstances, labels: ArrayLike, instances: Instances
    ) -> LabelledRows:
        """Read the arguments of `permutation_test`. Raises TypeError or ValueError as it does."""
        names, classes = np.unique(validated_labels(labels), return_inverse=True)
        numbers, owners, units = _states_with_instances(states, instances, len(classes))
        if units is not None:
            owners, classes = _by_unit(owners, classes, units)
        # Whatever the label of an instance without rows, no state tells it: it cannot be permuted.
        present, places = np.unique(owners, return_inverse=True)
        return cls(numbers, places.astype(np.int64), classes[present].astype(np.int64), names)


def _states_with_instances(
    states: ArrayLike | HasInstances, instances: Instances, count: int
) -> tuple[Ints, Ints, NDArray[Any] | None]:
    if not isinstance(states, HasInstances):
        numbers = state_numbers(states)
        return numbers, _instances_of_rows(instances, len(numbers), count), None
    if instances is not None:
        raise TypeError("instances is for arrays: states knows the instances of its rows")
    rows, owners, known, units = states.rows_with_instances()
    if known != count:
        raise ValueError(f"labels must be one for each of the {known} instances, got {count}")
    return state_numbers(rows), owners, units


def _by_unit(owners: Ints, classes: Ints, units: NDArray[Any]) -> tuple[Ints, Ints]:
    """Return the unit of each row, and the class of each unit.

    Raises ValueError if instances of a unit, with rows, have several.
    """
    names = units.tolist()  # of integers and strings, which do not sort together
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    unit_of = np.array([places[name] for name in names])
    present = np.unique(owners)
    of_units = np.zeros(len(places), np.int64)
    of_units[unit_of[present]] = classes[present]
    if len(others := present[of_units[unit_of[present]] != classes[present]]):
        raise ValueError(
            f"inputs of unit {names[others[0]]!r} have different labels: labels are permuted by "
            "unit, since inputs of a unit depend on each other"
        )
    return unit_of[owners], of_units


def _instances_of_rows(instances: Instances, rows: int, count: int) -> Ints:
    if not count or not rows:
        raise ValueError(f"states and labels must not be empty, got {rows} rows, {count} labels")
    if isinstance(instances, str) and instances == "equal":
        if rows % count:
            raise ValueError(f"{rows} rows cannot be divided among {count} instances")
        return np.repeat(np.arange(count), rows // count)
    if instances is not None:
        return _checked_instances(instances, rows, count)
    if rows != count:
        raise ValueError(
            f"which of the {rows} rows belong to which of the {count} labels is not known: give "
            "the capture point or stored layer itself, or instances=, the number of the instance "
            'of each row; or instances="equal" if all have equally many, one after the other'
        )
    return np.arange(count)


def _checked_instances(instances: ArrayLike, rows: int, count: int) -> Ints:
    owners = host_array(instances, "instances")
    if owners.dtype.kind not in "iu" or owners.shape != (rows,):
        raise TypeError(
            f'instances must be "equal" or integers of shape ({rows},), one for each row, '
            f"got {owners.dtype} of shape {owners.shape}"
        )
    if not 0 <= int(owners.min()) <= int(owners.max()) < count:
        raise ValueError(
            f"instances must be from 0 to {count - 1}, one less than there are labels, got "
            f"{owners.min()} to {owners.max()}"
        )
    return owners.astype(np.int64)


def state_numbers(states: ArrayLike) -> Ints:
    """Return a number from 0 for each row, the same for equal states."""
    if hasattr(states, "efficiency_layers"):
        kind = type(states).__name__
        raise TypeError(f"states must be those of one layer, got {kind}: choose a layer")
    rows = host_array(states, "states")
    if rows.ndim == 2 and rows.dtype == np.uint8 and rows.shape[1]:
        rows = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1])))[:, 0]
    elif rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(
            "states must be uint8 of shape (rows, bytes) or integers of shape (rows,), "
            f"got {rows.dtype} of shape {rows.shape}"
        )
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)
