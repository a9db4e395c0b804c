"""Selects layers by name, glob, class name, class or predicate.

It is independent of the framework: each bridge lists its layers, and all bridges use these
functions.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from tensorstate_gpu.errors import NoLayerMatches

Layers = Sequence[tuple[str, Any]]
Matcher = Callable[[str, Any], bool]
ClassNames = Callable[[Any], Sequence[str]]


def own_class_name(layer: Any) -> tuple[str, ...]:
    return (type(layer).__name__,)


def match(
    layers: Layers, attach_to: Any, exclude: Any = (), class_names: ClassNames = own_class_name
) -> list[tuple[str, Any]]:
    """Return the layers that match ``attach_to`` but not ``exclude``, in the model's order.

    Each layer once, by its first name. One that is registered under several names answers to all:
    it matches if one of them does.

    Parameters
    ----------
    layers : sequence of (name, layer)
    attach_to, exclude : str, class, predicate, layer, or an iterable of these
        A string is a layer's name, its class name, or a glob over either (``features.*``,
        ``Conv?d``). A class matches its instances. A predicate is called with ``(name, layer)``.
    class_names : function of a layer
        Returns the names of its class; frameworks may create classes at run time.

    Raises
    ------
    TypeError
        For a pattern of another type.
    ValueError
        If no layer is left. The message lists all layers, the most similar names first.

    Examples
    --------
    >>> match([("a", 1), ("b", 2.0), ("c", True)], ["int", "b"], exclude="c")
    [('a', 1), ('b', 2.0)]
    >>> match([("a", 1), ("b", 2.0), ("c", 1)], "c")
    [('a', 1)]
    """
    wanted = _matchers(attach_to, "attach_to", layers, class_names)
    unwanted = _matchers(exclude, "exclude", layers, class_names)
    if not wanted:
        raise ValueError("attach_to names no layer: it is empty")
    chosen = [
        (names[0], layer)
        for names, layer in names_of_layers(layers)
        if _any_matches(wanted, names, layer) and not _any_matches(unwanted, names, layer)
    ]
    if not chosen:
        raise NoLayerMatches(_nothing_matched(layers, attach_to, exclude))
    return chosen


def names_of_layers(layers: Layers) -> list[tuple[list[str], Any]]:
    """Return each layer once, with all its names."""
    found: dict[int, tuple[list[str], Any]] = {}
    for name, layer in layers:
        names, _ = found.setdefault(id(layer), ([], layer))
        if name not in names:
            names.append(name)
    return list(found.values())


def _any_matches(matchers: Sequence[Matcher], names: Sequence[str], layer: Any) -> bool:
    return any(matches(name, layer) for matches in matchers for name in names)


def _matchers(
    patterns: Any, argument: str, layers: Layers, class_names: ClassNames
) -> list[Matcher]:
    if isinstance(patterns, (str, type)) or callable(patterns):
        patterns = [patterns]
    if not isinstance(patterns, Iterable):
        raise _pattern_error(patterns, argument)
    return [_matcher(pattern, argument, layers, class_names) for pattern in patterns]


def _matcher(pattern: Any, argument: str, layers: Layers, class_names: ClassNames) -> Matcher:
    # Layers are often callable. A layer of the model matches itself; it is not a predicate.
    if any(pattern is layer for _, layer in layers):
        return lambda name, layer: layer is pattern
    if isinstance(pattern, str):
        return lambda name, layer: _matches_any(pattern, (name, *class_names(layer)))
    if isinstance(pattern, type):
        return lambda name, layer: isinstance(layer, pattern)
    if callable(pattern):
        return lambda name, layer: bool(pattern(name, layer))
    raise _pattern_error(pattern, argument)


def _matches_any(pattern: str, texts: Iterable[str]) -> bool:
    # Compare literally first: a layer's name may contain characters that are special in a glob.
    return any(text == pattern or fnmatchcase(text, pattern) for text in texts)


def _pattern_error(pattern: Any, argument: str) -> TypeError:
    return TypeError(
        f"{argument} must be a layer name, class name, glob, class or predicate (name, layer) -> "
        f"bool, or a list of these, got {type(pattern).__name__}"
    )


def _nothing_matched(layers: Layers, attach_to: Any, exclude: Any) -> str:
    listed = [f"{name} ({type(layer).__name__})" for name, layer in layers]
    patterns = [attach_to] if isinstance(attach_to, str) else attach_to
    words = [p for p in patterns if isinstance(p, str)] if isinstance(patterns, Iterable) else []
    if words:
        closeness = {
            text: max(
                difflib.SequenceMatcher(None, word.lower(), part.lower()).ratio()
                for word in words
                for part in (name, type(layer).__name__)
            )
            for text, (name, layer) in zip(listed, layers, strict=True)
        }
        listed.sort(key=lambda text: -closeness[text])
    shown = ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")
    excluding = f" with exclude={exclude!r}" if exclude else ""
    return f"attach_to={attach_to!r}{excluding} matches no layer; there are: {shown or 'none'}"
