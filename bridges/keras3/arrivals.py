"""Keras 3: what is known of a batch beside its rows, when it comes to a capture point."""

import threading
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._capturing.pass_notes import Mask

from .input_order import InputOrder, order_of_this_call
from .passes import ModelPasses, Pass
from .this_call import place_of_this_call
from .training_mode import kind_of_pass


class Arrival(threading.local):
    """What a thread knows of the batch that it brings; other threads may bring others meanwhile.

    ``passed``: the pass of the model that it belongs to; ``mask``: Keras' own. If a graph brings
    it: ``order``, of the inputs, and ``kind``, of what called outside of passes.
    """

    passed: Pass | None = None
    mask: Mask | None = None
    order: InputOrder | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class GraphCall:
    """What is known of a call while it is put into a graph.

    ``outside_of``: the pass that had begun last, if the model that is captured does not make the
    call: that pass may have failed in its graph. The call may belong to later ones.
    """

    place: object
    order: InputOrder
    outside_of: Pass | None
    kind: str | None

    @classmethod
    def now(cls, passes: ModelPasses | None) -> Self:
        """Return what is known of the call that is made."""
        place, order = place_of_this_call(in_graph=True), order_of_this_call()
        if passes is None or passes.is_in_model:
            return cls(place, order, None, None)
        return cls(place, order, passes.latest, kind_of_pass(None, in_graph=True))


def as_own_mask(mask: Any) -> Mask | None:
    """Return a mask that Keras has made as (inputs, positions); None if it has other axes."""
    values: NDArray[np.generic] = np.asarray(mask)
    return values.astype(np.bool_) if values.ndim == 2 else None
