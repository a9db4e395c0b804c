"""Names of states: those of later calls of a layer; states found by the name of their layer."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tensorstate_gpu._arguments import integer
from tensorstate_gpu.reporting.text import with_noun

_ENDINGS = ("_post_states", "_pre_states", "_states")


class _NoSuchPlace(IndexError, KeyError):
    """Also a KeyError: with these, a Mapping answers ``in`` and get()."""

    __str__ = Exception.__str__


def name_of_call(name: str, number: int) -> str:
    """Return the name of the states of a layer's second, third, ... call within a pass.

    >>> name_of_call("relu_post_states", 2), name_of_call("relu_post_states", 1)
    ('relu:2_post_states', 'relu_post_states')
    """
    if number == 1:
        return name
    layer = layer_of(name)
    return f"{layer}:{number}{name.removeprefix(layer)}"


def find_name(names: Mapping[str, Sequence[str]], wanted: str | int, *, of: str) -> str:
    """Return the name of states whose name this is, or one of whose other names, or whose layer's.

    ``names``: the other names of states, by their name. ``wanted``: a name, or the place of states
    among them. ``of``: what has the states. Raises KeyError if there are none of the name, if a
    layer has several, and for what is neither a str nor an integer; IndexError if there is no such
    place.

    >>> find_name({"conv_post_states": (), "relu_post_states": ()}, "relu", of="run")
    'relu_post_states'
    >>> find_name({"conv_post_states": (), "relu_post_states": ()}, -2, of="run")
    'conv_post_states'
    """
    if not isinstance(wanted, str):
        return list(names)[_place(wanted, len(names), of)]
    by_layer = {wanted + ending for ending in _ENDINGS}
    for meant in ({wanted}, by_layer):
        found = [name for name, others in names.items() if not meant.isdisjoint((name, *others))]
        if len(found) == 1:
            return found[0]
        if found:
            raise KeyError(f"{of} has several states of {wanted!r}: {found}")
    raise KeyError(f"{of} has no states of {wanted!r}; there are {list(names)}")


def _place(wanted: object, layers: int, of: str) -> int:
    try:
        place = integer(wanted, "place")
    except TypeError:  # as a KeyError, it does not reach who asks a Mapping with ``in`` or get()
        kind = type(wanted).__name__
        raise KeyError(
            f"{of} has layers by name (a str) or place (an int), got {kind} {wanted!r}"
        ) from None
    if not -layers <= place < layers:
        raise _NoSuchPlace(f"{of} has {with_noun(layers, 'layer')}, got index {place}")
    return place


def layer_labels(names: Iterable[str]) -> dict[str, str]:
    """Return short names of states: that of their layer, if it has no others here.

    >>> layer_labels(["conv_post_states"])
    {'conv_post_states': 'conv'}
    >>> layer_labels(["conv_pre_states", "conv_post_states"])
    {'conv_pre_states': 'conv_pre', 'conv_post_states': 'conv_post'}
    """
    layers = {name: layer_of(name) for name in names}
    often = Counter(layers.values())
    return {
        name: layer if often[layer] == 1 else name.removesuffix("_states")
        for name, layer in layers.items()
    }


def layer_of(name: str) -> str:
    """Return the name of the layer that states of this name are of, with the number of a call.

    >>> layer_of("relu:2_post_states")
    'relu:2'
    """
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending) or name
