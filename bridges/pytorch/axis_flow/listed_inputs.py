"""ListedInputs: tensors that a model is given in a list, until they are put into one batch."""

import weakref
from collections.abc import MutableMapping, Sequence

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .calls import Call

Row = tuple["weakref.ref[Tensor]", int]
_JOINING = {"stack", "cat", "concat", "concatenate"}


class ListedInputs:
    """Which of the listed inputs a tensor was computed from, and which rows were written from them.

    Detectors take images of different sizes. They resize each, make a batch of zeros, and write the
    images into its rows, one by one.
    """

    def __init__(self) -> None:
        self.count = 0
        self._number: MutableMapping[Tensor, int] = (
            WeakTensorKeyDictionary()
        )  # of the input that a tensor is made from
        # A tensor, and which of its rows another one is; and the rows of a tensor that are inputs.
        self._row: MutableMapping[Tensor, Row] = WeakTensorKeyDictionary()
        self._written: MutableMapping[Tensor, set[int]] = WeakTensorKeyDictionary()

    def mark(self, tensors: Sequence[Tensor]) -> None:
        """Mark the tensors of a list that the model is given."""
        self.count = len(tensors)
        for number, tensor in enumerate(tensors):
            self._number[tensor] = number

    def follow(self, call: Call) -> bool:
        """Note a call. Return whether its output has the inputs along axis 0, in order."""
        if not self.count:
            return False
        numbers = [self._number.get(tensor) for tensor in call.tensors]
        if call.name in _JOINING:
            in_order = numbers == list(range(self.count)) and call.shape[0] == self.count
            return in_order and not call.argument(1, "dim", "axis")
        self._note_rows(call)
        known = {number for number in numbers if number is not None}
        if len(known) == 1:
            for output in call.outputs:
                if isinstance(output, Tensor):
                    self._number[output] = next(iter(known))
        return False

    def _note_rows(self, call: Call) -> None:
        if call.name == "unbind" and not call.argument(1, "dim"):
            for place, output in enumerate(call.outputs):
                self._row[output] = weakref.ref(call.input), place
        elif call.name == "__getitem__":
            source, index = call.args
            row = self._row.get(source) or _row_at(source, index)
            if row is not None:
                self._row[call.out] = row

    def write(self, target: Tensor, index: object, value: object) -> Tensor | None:
        """Note that a tensor is written to. Return the one whose rows now are all of the inputs."""
        number = self._number.get(value) if isinstance(value, Tensor) else None
        row = self._row.get(target) or _row_at(target, index)
        if number is None or row is None or row[1] != number:
            return None
        whole = row[0]()
        if whole is None or len(whole) != self.count:
            return None
        written = self._written.setdefault(whole, set())
        written.add(number)
        return whole if len(written) == self.count else None


def _row_at(tensor: Tensor, index: object) -> Row | None:
    """Return a tensor and the row that an index begins with, if it does."""
    first = index[0] if isinstance(index, tuple) and index else index
    if type(first) is not int or not tensor.ndim:
        return None
    return weakref.ref(tensor), first % len(tensor)
