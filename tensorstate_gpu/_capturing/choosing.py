"""Chooses the layers to capture: what matches, the model itself, and names that match nothing."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Literal

from tensorstate_gpu._arguments import choice
from tensorstate_gpu._capturing.bridge_protocol import Bridge, Chosen
from tensorstate_gpu._capturing.matching import (
    Layers,
    closest_first,
    listed,
    match,
    names_of_layers,
    texts_of,
)
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NoLayerMatches, UnmatchedNameWarning

Missing = Literal["error", "warn"]
_MISSING = ("error", "warn")


def choose(
    bridge: Bridge, model: object, attach_to: object, exclude: object, missing: Missing
) -> tuple[Chosen, dict[str, list[str]], frozenset[str]]:
    """Return the layers to capture, the other names of each, by its first name, and optional ones.

    These, by name, are what ``"*"`` alone has chosen.

    ``attach_to``: None stands for the layers with weights. Raises NoLayerMatches if no layer is
    left, or, if ``missing`` is "warn", issues an UnmatchedNameWarning, as for each name in a list
    that is that of no layer.
    """
    choice(missing, "missing", _MISSING)
    layers = bridge.layers(model)
    whole = bridge.itself(model)
    itself = None if any(layer is whole[1] for _, layer in layers) else whole
    unwanted = _without_wrappers(bridge, as_patterns(exclude))
    try:
        wanted = (
            _with_weights(bridge, model)
            if attach_to is None
            else _without_wrappers(bridge, as_patterns(attach_to))
        )
        chosen = match(
            layers,
            wanted,
            unwanted,
            bridge.class_names,
            itself=itself,
            all_layers=bridge.all_layers(model),
        )
    except NoLayerMatches as error:
        if missing == "error":
            raise
        warn_user(str(error), UnmatchedNameWarning)
        chosen = []
    else:
        texts = texts_of([*layers, whole], bridge.class_names)
        _warn_of_names([*_names_in(wanted), *_names_in(unwanted)], texts, layers)
    others = {names[0]: names[1:] for names, _ in names_of_layers(layers) if names[1:]}
    named = _named(wanted, layers, itself, bridge) if chosen else set()
    optional = frozenset(name for name, _ in chosen if name not in named)
    return chosen, {name: others[name] for name, _ in chosen if name in others}, optional


def _named(
    wanted: object, layers: Layers, itself: tuple[str, object] | None, bridge: Bridge
) -> set[str]:
    """Return the names of the layers that a pattern other than ``"*"`` means."""
    each = [*listed(wanted)]
    patterns = [pattern for pattern in each if not _is_all(pattern)]
    if len(patterns) == len(each):  # a function is not asked twice for nothing
        return {name for name, _ in (*layers, *([itself] if itself else []))}
    if not patterns:
        return set()
    try:
        found = match(layers, patterns, (), bridge.class_names, itself=itself)
    except NoLayerMatches:
        return set()
    return {name for name, _ in found}


def _is_all(pattern: object) -> bool:
    return isinstance(pattern, str) and pattern == "*"


def _with_weights(bridge: Bridge, model: object) -> list[object]:
    """Return the layers that are captured by default."""
    found = [layer for _, layer in bridge.all_layers(model) if bridge.has_kernel(layer)]
    if not found:
        raise NoLayerMatches(
            f"no layer of {type(model).__name__} has weights of two or more axes (before the first "
            'call, Keras layers may have none yet): attach_to= names others, and "*" stands for all'
        )
    return found


def _without_wrappers(bridge: Bridge, patterns: object) -> object:
    if (each := listed(patterns)) is patterns:
        return [bridge.inside(pattern) for pattern in each]
    return bridge.inside(patterns)


def as_patterns(patterns: object) -> object:
    """Return patterns that can be read more than once."""
    return list(patterns) if isinstance(patterns, Iterator) else patterns


def _names_in(patterns: object) -> list[str]:
    """Return the patterns that are plain names, not globs."""
    given = [each for each in listed(patterns) if isinstance(each, str)]
    return [each for each in given if not set("*?[") & set(each)]


def _warn_of_names(names: Sequence[str], texts: Sequence[str], layers: Layers) -> None:
    for name in dict.fromkeys(names):
        if name not in texts:
            closest = difflib.get_close_matches(name, texts, 1)
            hint = f"; is it {closest[0]!r}?" if closest else ""
            warn_user(
                f"{name!r} is the name of no layer, and of no class of layers{hint}; there are: "
                f"{closest_first(layers, [name], shown=5)}",
                UnmatchedNameWarning,
            )
