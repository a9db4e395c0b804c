"""Finds the array that is captured among those of a layer's output: one rule for all frameworks."""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping


def first_array(
    value: object, axes_of: Callable[[object], int | None], *, may_contain_itself: bool = True
) -> object | None:
    """Return the first array that has axes, in nested tuples, lists, mappings and dataclasses.

    A plain dict has its parts in the order of its keys, as in JAX and Keras, which forget any other
    order when they trace; everything else, also an OrderedDict, in the order that it lists them. If
    all arrays are 0-d, as losses are, return the first of these; None if there is no array.
    ``axes_of`` returns the number of axes of an array, and None for other objects.
    """
    outer = () if may_contain_itself else None
    found = _first(value, lambda part: bool(axes_of(part)), outer)
    return _first(value, lambda part: axes_of(part) is not None, outer) if found is None else found


def _first(
    value: object, is_wanted: Callable[[object], bool], outer: tuple[object, ...] | None
) -> object | None:
    """``outer``: the enclosing objects, which are not entered again; None: do not compare them."""
    if is_wanted(value):
        return value
    if outer is not None:
        if any(value is each for each in outer):
            return None
        outer = (*outer, value)
    for part in _parts(value):
        found = _first(part, is_wanted, outer)
        if found is not None:
            return found
    return None


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict) and type(value) in (dict, defaultdict):
        with contextlib.suppress(TypeError):  # keys that do not compare
            return [value[key] for key in sorted(value)]
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (tuple, list)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return ()
