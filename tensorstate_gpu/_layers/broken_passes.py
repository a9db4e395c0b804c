"""Broken forward passes: where passes begin, and whether the last one did not get to all layers."""

from collections.abc import Iterable


class PassStarts:
    """Recognises the start of a forward pass: the layer that is called first is called again."""

    def __init__(self) -> None:
        self._first_layer: str | None = None
        self._batches_since_first = 0

    def begins_with(self, name: str, layers: int) -> bool:
        """Return whether the next batch, of the layer ``name``, starts a new forward pass."""
        self._batches_since_first += 1
        # Choose a new first layer if the model no longer calls the old one.
        if self._first_layer is None or self._batches_since_first > 10 * layers:
            self._first_layer, self._batches_since_first = name, 0
            return False
        if name != self._first_layer:
            return False
        self._batches_since_first = 0
        return True


def is_broken(layers: Iterable[tuple[int, bool]], in_pass: Iterable[bool | None]) -> bool:
    """Return whether the last forward pass did not get to all layers, after an exception.

    ``layers``: how many instances each has had since a pass began last, and whether it runs in
    every pass. ``in_pass``: whether a pass has begun and not ended, where that is known.
    """
    each = list(layers)
    differ = len({instances for instances, _ in each}) > 1
    out_of_step = len({instances for instances, always in each if always}) > 1
    # Layers that run in some passes only, such as experts, have other numbers also between passes.
    return differ and (out_of_step or any(known is not False for known in in_pass))
