"""Inputs of the user's as batches for a model, with labels where there are any."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeGuard

from numpy.typing import NDArray

from tensorstate_gpu._arrays.label_arrays import validated_labels
from tensorstate_gpu._cli.users_objects import users_code

FROM_BATCHES = "from-batches"


class Sliceable(Protocol):
    """An array of any library, or a list of labels."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> object: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Some inputs: an array, or a mapping of arrays; and their labels, or None."""

    inputs: object
    labels: object = None

    def __len__(self) -> int:
        return _length(self.inputs)

    def part(self, begin: int, end: int) -> Batch:
        """Return a batch of some of the inputs."""
        if (begin, end) == (0, len(self)):
            return self
        part = slice(begin, end)
        return Batch(_part(self.inputs, part), _labels_part(self.labels, part))


class Batches:
    """The batches of the user's inputs.

    ``inputs``: an array or a mapping of arrays, which is cut into batches of ``size``; or an
    iterable of batches, such as a DataLoader. ``labels``: one for each input; or "from-batches",
    if batches are pairs (inputs, labels).

    Raises TypeError or ValueError for other arguments and if there are no inputs; between() also
    for batches that are nothing of this.
    """

    def __init__(self, inputs: object, labels: object, size: int) -> None:
        if size < 1:
            raise ValueError(f"--batch-size must be at least 1, got {size}")
        self._inputs, self._size = inputs, size
        self._pairs = isinstance(labels, str) and labels == FROM_BATCHES
        self._whole = is_array(inputs) or isinstance(inputs, Mapping)
        if self._whole and self._pairs:
            raise ValueError("--labels from-batches needs an iterable of batches, got an array")
        if isinstance(inputs, (tuple, str, bytes)) or not (
            self._whole or isinstance(inputs, Iterable)
        ):
            raise TypeError(
                "--inputs must be an array or an iterable of batches, such as a DataLoader, got "
                f"{type(inputs).__name__}"
            )
        if self._whole:
            _check_lengths(inputs)
        self._labels = None if self._pairs or labels is None else _checked_labels(labels)
        self._check_number_of_labels()
        self._batches = _not_empty(self._each())

    def _check_number_of_labels(self) -> None:
        """Raise ValueError for more labels than inputs in an array: they are not of these inputs.

        Fewer are enough for --limit; an iterable may leave out its last inputs, as DataLoaders can.
        """
        if not self._whole or self._labels is None:
            return
        labels, inputs = len(self._labels), _length(self._inputs)
        if labels > inputs:
            raise ValueError(f"there are {labels:,} labels, and {inputs:,} inputs")

    def count(self, inputs: int | None) -> int | None:
        """Return how many batches there are, or None if only iterating tells.

        ``inputs``: of so many inputs at most, where the sizes of batches are known.
        """
        if not self._whole:
            try:
                return len(self._inputs)  # type: ignore[arg-type]
            except TypeError:  # a stream, which some classes know only of each object
                return None
        length = _length(self._inputs)
        return -(-min(length, length if inputs is None else inputs) // self._size)

    def between(self, begin: int, end: int | None) -> Iterator[Batch]:
        """Yield the inputs from ``begin`` on, before ``end`` if there is one. For one call only."""
        if begin and type(getattr(self._inputs, "sampler", None)).__name__ == "RandomSampler":
            raise ValueError(
                "the DataLoader shuffles its inputs, so nothing says which of them the store has: "
                "shuffle=False allows to go on"
            )
        first = 0
        for batch in self._batches:
            skipped = min(max(begin - first, 0), len(batch))
            wanted = len(batch) if end is None else min(end - first, len(batch))
            if skipped < wanted:
                yield batch.part(skipped, wanted)
            first += len(batch)
            if end is not None and first >= end:
                return

    def _each(self) -> Iterator[Batch]:
        first = 0
        for given in self._cut() if self._whole else self._given():
            inputs, labels = _pair(given) if self._pairs else (given, None)
            batch = Batch(_checked(inputs), labels)
            if self._labels is not None:
                batch = dataclasses.replace(batch, labels=self._labels_of(first, len(batch)))
            yield batch
            first += len(batch)

    def _given(self) -> Iterator[object]:
        assert isinstance(self._inputs, Iterable)
        given, nothing = iter(self._inputs), object()
        while True:
            with users_code("--inputs failed"):
                batch = next(given, nothing)
            if batch is nothing:
                return
            yield batch

    def _cut(self) -> Iterator[object]:
        for first in range(0, _length(self._inputs), self._size):
            yield _part(self._inputs, slice(first, first + self._size))

    def _labels_of(self, first: int, number: int) -> object:
        assert self._labels is not None
        if len(self._labels) < first + number:
            raise ValueError(f"there are {len(self._labels):,} labels, and more inputs than that")
        return self._labels[first : first + number]


def is_array(value: object) -> TypeGuard[Sliceable]:
    """Return whether a value is an array with axes, of any library."""
    return bool(getattr(value, "shape", ()))


def _not_empty(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Return the batches. Raises ValueError if there are none."""
    for first in batches:
        return itertools.chain([first], batches)
    raise ValueError("--inputs has no inputs")


def _checked(inputs: object) -> object:
    """Return the inputs of a batch. Raises TypeError for several that have no names."""
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1:  # as TensorDataset makes them
        (inputs,) = inputs
    if is_array(inputs) or (isinstance(inputs, Mapping) and any(map(is_array, inputs.values()))):
        return inputs
    if isinstance(inputs, (tuple, list)):
        raise TypeError(
            f"a batch is a {type(inputs).__name__} of {len(inputs)}: --labels from-batches says "
            "that the second of two are labels; several inputs of a model go into a dict by name"
        )
    raise TypeError(f"a batch must be an array or a dict of arrays, got {type(inputs).__name__}")


def _checked_labels(labels: object) -> NDArray[Any]:
    """Return labels as an array. Raises TypeError or ValueError unless it is one for each input."""
    if not _can_be_sliced(labels):
        raise TypeError(f"--labels must be an array or a list, got {type(labels).__name__}")
    return validated_labels(labels, what="--labels")


def _check_lengths(inputs: object) -> None:
    """Raise ValueError if arrays of a mapping have different numbers of inputs."""
    if not isinstance(inputs, Mapping):
        return
    lengths = {name: _length(each) for name, each in inputs.items() if is_array(each)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{number:,} of {name}" for name, number in lengths.items())
        raise ValueError(f"the arrays of --inputs must have the same length, got {listed}")


def _pair(batch: object) -> tuple[object, object]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    of = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
    raise TypeError(
        "--labels from-batches takes batches that are pairs (inputs, labels), got "
        f"{type(batch).__name__}{of}"
    )


def _length(inputs: object) -> int:
    arrays = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    return next((int(each.shape[0]) for each in arrays if is_array(each)), 0)  # type: ignore[attr-defined]


def _part(inputs: object, part: slice) -> object:
    if isinstance(inputs, Mapping):
        return {name: _part(value, part) for name, value in inputs.items()}
    return inputs[part] if is_array(inputs) else inputs


def _labels_part(labels: object, part: slice) -> object:
    return labels[part] if _can_be_sliced(labels) else labels


def _can_be_sliced(labels: object) -> TypeGuard[Sliceable]:
    return is_array(labels) or isinstance(labels, list)
