"""Selects layers by name, glob, class name, class or predicate.

It is independent of the framework: each bridge lists its layers, and all bridges use these
functions.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

from tensorstate_gpu._arguments import is_iterable
from tensorstate_gpu.errors import NoLayerMatches
from tensorstate_gpu.reporting.text import with_noun

Layers = Sequence[tuple[str, Any]]
Matcher = Callable[[str, Any], bool]
ClassNames = Callable[[Any], Sequence[str]]


def own_class_name(layer: Any) -> tuple[str, ...]:
    return (type(layer).__name__,)


def match(
    layers: Layers,
    attach_to: object,
    exclude: object = (),
    class_names: ClassNames = own_class_name,
    *,
    itself: tuple[str, Any] | None = None,
    all_layers: Layers | None = None,
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
    itself : (name, model), optional
        The model, which only its name, its class, the name of its class, and the model itself
        match: globs and predicates are about its layers. It comes last.
    all_layers : sequence of (name, layer)
        The layers that ``"*"`` stands for, by default all.

    Raises
    ------
    TypeError
        For a pattern of another type.
    ValueError
        If a layer is given that is none of these; and NoLayerMatches if no layer is left. The
        message lists the layers, the most similar names first.

    Examples
    --------
    >>> match([("a", 1), ("b", 2.0), ("c", True)], ["int", "b"], exclude="c")
    [('a', 1), ('b', 2.0)]
    >>> match([("a", 1), ("b", 2.0), ("c", 1)], "c")
    [('a', 1)]
    """
    every = layers if all_layers is None else all_layers
    known = layers if itself is None else [*layers, itself]
    wanted = _matchers(attach_to, "attach_to", known, every, class_names)
    unwanted = _matchers(exclude, "exclude", known, every, class_names)
    if not wanted:
        raise ValueError("attach_to names no layer: it is empty")
    chosen = [
        (names[0], layer)
        for names, layer in names_of_layers(layers)
        if _any_matches(wanted, names, layer) and not _any_matches(unwanted, names, layer)
    ]
    if itself is not None and _is_meant(itself, attach_to, exclude, class_names):
        chosen.append(itself)
    if not chosen:
        raise NoLayerMatches(_nothing_matched(layers, attach_to, exclude))
    return chosen


def _is_meant(
    itself: tuple[str, object], attach_to: object, exclude: object, class_names: ClassNames
) -> bool:
    """Return whether patterns mean the model itself."""
    name, model = itself
    words = (name, *class_names(model))

    def means(pattern: object) -> bool:
        if isinstance(pattern, type):
            return isinstance(model, pattern) and pattern.__name__ in words
        return pattern is model or (isinstance(pattern, str) and pattern in words)

    return any(map(means, listed(attach_to))) and not any(map(means, listed(exclude)))


def listed(patterns: object) -> Iterable[object]:
    """Return patterns as something that lists them: one alone, or what is none, in a list."""
    alone = isinstance(patterns, (str, type)) or callable(patterns)
    return [patterns] if alone or not is_iterable(patterns) else patterns


def texts_of(layers: Layers, class_names: ClassNames) -> list[str]:
    """Return all texts that a pattern may name: names of layers and of their classes."""
    return list(
        dict.fromkeys(text for name, layer in layers for text in (name, *class_names(layer)))
    )


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
    patterns: object, argument: str, layers: Layers, every: Layers, class_names: ClassNames
) -> list[Matcher]:
    return [_matcher(pattern, argument, layers, every, class_names) for pattern in listed(patterns)]


def _matcher(
    pattern: object, argument: str, layers: Layers, every: Layers, class_names: ClassNames
) -> Matcher:
    """Return what decides whether a pattern means a layer: a function (name, layer) -> bool.

    ``every``: the layers that "*" means. Raises TypeError or ValueError for what is no pattern.
    """
    # Layers are often callable. A layer of the model matches itself; it is not a predicate.
    if any(pattern is layer for _, layer in layers):
        return lambda name, layer: layer is pattern
    if isinstance(pattern, str) and pattern == "*":
        ids = {id(layer) for _, layer in every}
        return lambda name, layer: id(layer) in ids
    if isinstance(pattern, str):
        return lambda name, layer: _matches_any(pattern, (name, *class_names(layer)))
    if isinstance(pattern, type):
        return lambda name, layer: isinstance(layer, pattern)
    if isinstance(pattern, _common_classes(layers)):
        raise ValueError(
            f"{argument}: a {type(pattern).__name__} that is given is no layer of this model; "
            f"there are: {closest_first(layers, [], shown=20)}"
        )
    if callable(pattern):
        _check_takes_two(pattern, argument)
        return lambda name, layer: bool(pattern(name, layer))
    raise _pattern_error(pattern, argument)


def _common_classes(layers: Layers) -> tuple[type, ...]:
    """Return the classes that all layers have in common, such as torch.nn.Module."""
    each = [set(type(layer).__mro__) - {object} for _, layer in layers]
    return tuple(set.intersection(*each)) if each else ()


def check_patterns(patterns: object, argument: str) -> None:
    """Raise TypeError for what is a pattern of no model, as far as it shows without one."""
    for pattern in listed(patterns):
        if not isinstance(pattern, (str, type)) and not callable(pattern):
            raise _pattern_error(pattern, argument)
        if inspect.isroutine(pattern):  # and no layer, which is called with its inputs
            _check_takes_two(pattern, argument)


def _check_takes_two(predicate: Callable[..., object], argument: str) -> None:
    try:
        signature = inspect.signature(predicate)
    except ValueError:  # some functions of C have none
        return
    try:
        signature.bind("name", "layer")
    except TypeError:
        raise TypeError(f"{argument} function must take (name, layer)") from None


def _matches_any(pattern: str, texts: Iterable[str]) -> bool:
    # Compare literally first: a layer's name may contain characters that are special in a glob.
    return any(text == pattern or fnmatchcase(text, pattern) for text in texts)


def _pattern_error(pattern: object, argument: str) -> TypeError:
    number = isinstance(pattern, Integral) and not isinstance(pattern, bool)
    advice = f": a name is a str, such as '{pattern}'" if number else ""
    return TypeError(
        f"{argument} must be a layer name, class name, glob, class or predicate (name, layer) -> "
        f"bool, or a list of these, got {type(pattern).__name__}{advice}"
    )


def _nothing_matched(layers: Layers, attach_to: object, exclude: object) -> str:
    words = [pattern for pattern in listed(attach_to) if isinstance(pattern, str)]
    excluding = f" with exclude={exclude!r}" if exclude else ""
    wanted, there_are = _shown(attach_to, layers), closest_first(layers, words, shown=20)
    advice = "" if exclude else _several(attach_to) or _globs_that_match(words, layers)
    return f"attach_to={wanted}{excluding} matches no layer{advice}; there are: {there_are}"


def _several(attach_to: object) -> str:
    """Return what to write instead of names in one text, such as "conv_1, conv_2"."""
    words = re.findall(r"[^\s,;]+", attach_to) if isinstance(attach_to, str) else []
    return f" (several are a list: {words})" if len(words) > 1 else ""


def _globs_that_match(words: Iterable[str], layers: Layers) -> str:
    """Return what would match layers whose names end in these words."""
    globs = [f"*{word}" for word in words if word and not set("*?[") & set(word)]
    counts = {glob: sum(fnmatchcase(name, glob) for name, _ in layers) for glob in globs}
    found = [f"{glob!r} matches {with_noun(n, 'layer')}" for glob, n in counts.items() if n]
    return f" ({', '.join(found)})" if found else ""


def _shown(patterns: object, layers: Layers) -> str:
    """Return patterns as Python writes them; of layers only how many, since each may take pages."""
    known = {id(layer) for _, layer in layers}
    given = sum(id(each) in known for each in listed(patterns))
    return f"<{with_noun(given, 'layer')}>" if given else repr(patterns)


def closest_first(layers: Layers, words: Sequence[str], shown: int) -> str:
    """List layers and their classes, those first that are most similar to one of the words."""
    texts = [f"{name} ({type(layer).__name__})" for name, layer in layers]
    if words:
        closeness = {
            text: max(
                difflib.SequenceMatcher(None, word.lower(), part.lower()).ratio()
                for word in words
                for part in (name, type(layer).__name__)
            )
            for text, (name, layer) in zip(texts, layers, strict=True)
        }
        texts.sort(key=lambda text: -closeness[text])
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return ", ".join(texts[:shown]) + more or "none"
