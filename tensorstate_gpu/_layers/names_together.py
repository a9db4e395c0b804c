"""names_together(): the layers of several runs of a model, each of which may lack some."""

from collections.abc import Iterable, Sequence


def names_together(each: Iterable[Sequence[str]]) -> list[str]:
    """Return all names of some lists, each of which is in the order of the model.

    Later calls of a layer appear in the passes of a run, which may take other ways through the
    model than those of another: no list need have all of them.
    """
    # Most lists are the same: a thousand of them are no thousand times as much work.
    first, *others = dict.fromkeys(map(tuple, each)) or [()]
    names, places = list(first), _places(first)
    for own in others:
        place = 0
        for name in own:
            if name not in places:
                names.insert(place, name)
                places = _places(names)
            place = places[name] + 1
    return names


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}
