"""PyTorch: PassFilter decides which forward passes of a model are captured."""

import weakref

from torch import nn

from tensorstate_gpu._capturing.options import When

_MOST_DECIDED = 64  # passes, of which several threads may run some at once


class PassFilter:
    """Decides once for each pass of a model whether it is captured.

    ``when``: "train", "eval", or a function of the model. Passes are told apart by their time; see
    PassTimes.
    """

    def __init__(self, when: When, model: nn.Module) -> None:
        self._when, self._model = when, weakref.ref(model)
        self._decided: dict[int, bool] = {}  # by the time of the pass

    def accepts(self, time: int) -> bool:
        """Return whether the pass at a time is captured."""
        if time % 2 == 0:
            return self._decide()
        accepted = self._decided.get(time)
        if accepted is None:
            accepted = self._decided[time] = self._decide()
            for earlier in [*self._decided][:-_MOST_DECIDED]:
                self._decided.pop(earlier, None)
        return accepted

    def _decide(self) -> bool:
        model = self._model()
        if model is None:
            return False
        if callable(self._when):
            return bool(self._when(model))
        return model.training == (self._when == "train")
