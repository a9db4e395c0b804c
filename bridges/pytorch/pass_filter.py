"""PyTorch: PassFilter decides which forward passes of a model are captured."""

import weakref

from torch import nn

from tensorstate_gpu._capturing.options import When

from .current_pass import CurrentPass

_MOST_DECIDED = 64  # passes, of which several threads may run some at once


class PassFilter:
    """Decides once for each pass of a model whether it is captured.

    ``when``: "train", "eval", or a function of the model. Passes are told apart by their time; see
    PassTimes. It is asked about a method when the first layer runs: not every method makes a pass.
    """

    def __init__(self, when: When, model: nn.Module) -> None:
        self._when, self._model = when, weakref.ref(model)
        self._decided: dict[int, bool] = {}  # by the time of the pass

    def accepts(self, time: int, current: CurrentPass) -> bool:
        """Return whether the pass at a time is captured. ``current``: that of this thread."""
        if time % 2 == 0 and current.method is None:
            return self._decide()
        if time % 2 == 0:  # the time of a pass in a method begins with the first layer
            if current.is_accepted is None:
                current.is_accepted = self._decide()
            return current.is_accepted
        accepted = self._decided.get(time)
        if accepted is None:
            accepted = self._decide() if current.is_accepted is None else current.is_accepted
            self._decided[time] = accepted
            if current.method is not None:
                current.is_accepted = accepted
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
