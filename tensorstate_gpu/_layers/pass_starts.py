"""PassStarts: recognises by the layers that are called where a forward pass begins."""


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
