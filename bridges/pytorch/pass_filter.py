"""PyTorch: PassFilter decides which forward passes of a model are captured."""

import weakref

from torch import nn

from tensorstate_gpu._capturing.options import When


class PassFilter:
    """Decides once for each pass of a model whether it is captured.

    ``when``: "train", "eval", or a function of the model. Passes are told apart by the clock of a
    PassCounter, which is odd inside of one.
    """

    def __init__(self, when: When, model: nn.Module) -> None:
        self._when, self._model = when, weakref.ref(model)
        self._last: tuple[int, bool] | None = None  # the clock of a pass, and the decision

    def accepts(self, clock: int) -> bool:
        """Return whether the pass at a time is captured."""
        if self._last is None or self._last[0] != clock or clock % 2 == 0:
            self._last = clock, self._decide()
        return self._last[1]

    def _decide(self) -> bool:
        model = self._model()
        if model is None:
            return False
        if callable(self._when):
            return bool(self._when(model))
        return model.training == (self._when == "train")
