"""Where the states of a run are from, in words for its page: the model, the layers, the options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tensorstate_gpu._capturing.options import CaptureOptions

OF_MODEL = ("class of the model", "name of the model")
OF_CHOICE = ("attach_to", "exclude", "method")
_ALWAYS_TOLD = ("keep", "threshold")
_TOLD_APART = ("disk_path", "firing", "run")


def origin_of_model(
    model: object, attach_to: object, exclude: object, method: str
) -> dict[str, str]:
    """Return what was captured of which model, as its user has asked for it."""
    kind = type(model)
    told = {"class of the model": f"{kind.__module__}.{kind.__qualname__}"}
    if isinstance(name := getattr(model, "name", None), str):  # Keras' have one
        told["name of the model"] = name
    told["attach_to"] = "layers with weights" if attach_to is None else _in_words(attach_to, model)
    if excluded := _in_words(exclude, model):
        told["exclude"] = excluded
    return told | {"method": method}


def origin_of_options(options: CaptureOptions) -> dict[str, str]:
    """Return the options that say what the numbers mean, and others that are not the default."""
    told = {}
    for field in dataclasses.fields(options):
        given = getattr(options, field.name)
        if field.name in _TOLD_APART:
            continue
        if field.name in _ALWAYS_TOLD or given != field.default:
            told[field.name] = _in_words(given)
    if options.firing is not None:
        del told["threshold"]
        told["firing"] = _in_words(options.firing)
    if options.disk_path is not None:
        told["store"] = str(options.disk_path)
    return told


def _in_words(given: object, model: object = None) -> str:
    if model is not None and given is model:
        return "the model"
    if isinstance(given, str | int | float):
        return str(given)
    if isinstance(given, Mapping):
        return ", ".join(f"{name}: {value}" for name, value in given.items())
    if isinstance(given, Sequence | set | frozenset):
        return _listed([_in_words(each, model) for each in given])
    name: Any = getattr(given, "__qualname__", None)
    return name or type(given).__name__


def _listed(words: Sequence[str]) -> str:
    more = f", ... ({len(words)} in all)" if len(words) > _MOST else ""
    return ", ".join(words[:_MOST]) + more


_MOST = 12  # thresholds, one for each neuron, may be thousands
