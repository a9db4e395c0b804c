"""Checks whether several stores are parts of one: from their commit records alone."""

from collections.abc import Iterator, Sequence, Set

from tensorstate_gpu._layers.instance_notes import NOTES
from tensorstate_gpu._layers.labels import INTEGERS, STRINGS
from tensorstate_gpu.errors import StoresDisagree
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.files import real_place
from tensorstate_gpu.store.store import Store

# What a capture notes for people: why inputs are unknown, and what told where the neurons are.
_RULES = ("neuron_axis", "threshold", "firing", "groups")
_LONGEST = 60  # characters of a value in a message
_REMARKS = {"axis_origin", "inputs_unknown"}


def check_joinable(stores: Sequence[Store]) -> None:
    """Raise StoresDisagree, with stores and values, unless all are parts of one capture."""
    _check_once(stores)
    filled = [store for store in stores if store.names]
    later = {name for store in filled for name in _later_calls(store)}
    may_be_lacking = later | _without_states(filled)
    known: dict[str, tuple[Store, LayerRecord]] = {}  # the first store that has states of a layer
    for store in filled:
        _check_names(filled[0], store, may_be_lacking)
        for name, layer in store.record.layers.items():
            if layer is not None:
                first, expected = known.setdefault(name, (store, layer))
                _check_layer(name, (first, expected), (store, layer))


def _check_once(stores: Sequence[Store]) -> None:
    """Rows that are there twice would be counted twice."""
    seen: dict[str, Store] = {}
    for store in stores:
        run = store.record.run
        for identity in filter(None, (real_place(str(store)), run and f"run {run}")):
            if identity in seen:
                raise StoresDisagree(f"a part counted twice: {_twice(seen[identity], store)}")
            seen[identity] = store


def _twice(one: Store, other: Store) -> str:
    if str(one) == str(other):
        return f"{one} is given twice"
    return f"{other} is the same store as {one}, or a copy of it"


def _later_calls(store: Store) -> Iterator[str]:
    """Yield the layers that appeared in the passes of a store; those of another may lack them."""
    for name, layer in store.record.layers.items():
        if layer is not None and layer.facts.call_of is not None:
            yield name


def _without_states(stores: Sequence[Store]) -> set[str]:
    """Return the layers of which no store has states; it is not known which are later calls."""
    layers = [each for store in stores for each in store.record.layers.items()]
    return {name for name, _ in layers} - {name for name, layer in layers if layer is not None}


def _check_names(one: Store, other: Store, may_be_lacking: Set[str]) -> None:
    differing = (set(one.names) ^ set(other.names)) - may_be_lacking
    if not differing:
        return
    name = next(name for name in (*one.names, *other.names) if name in differing)
    has, lacks = (one, other) if name in one.names else (other, one)
    raise StoresDisagree(f"{has} has the layer {name!r}, and {lacks} has not: it has {lacks.names}")


def _check_layer(
    name: str, one: tuple[Store, LayerRecord], other: tuple[Store, LayerRecord]
) -> None:
    for what, value in _described(one[1]).items():
        if (found := _described(other[1]).get(what)) != value:
            told = f"{_short(value)} in {one[0]}, {_short(found)} in {other[0]}"
            raise StoresDisagree(f"{name}: {what}: {told}")


def _described(layer: LayerRecord) -> dict[str, object]:
    """Return what all parts of a layer must have in common."""
    rule = dict.fromkeys(_RULES) | layer.capture
    noted = {what: _noted(layer, what) for what in NOTES}
    kept = {what: value for what, value in rule.items() if what not in _REMARKS}
    what = "states" if layer.counts is None else "counts"
    return {"neurons": layer.neurons, "keep": what, **kept, **noted}


def _noted(layer: LayerRecord, what: str) -> str:
    """Return which labels or units a layer has: of labels of counts, the record has their kinds."""
    if not layer.noted[what]:
        return "none"
    if layer.counts is None or what != "labels":
        return "some"
    labels = (label for label in layer.counts.labels if label is not None)
    return " and ".join(sorted({INTEGERS if isinstance(each, int) else STRINGS for each in labels}))


def _short(value: object) -> str:
    text = str(value)  # a threshold for each neuron, perhaps
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
