"""NotedAxes: the axes of tensors, and why nothing is known of others."""

from collections.abc import MutableMapping
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..spread_tensors import is_spread
from .factors import (
    BATCH,
    NEURON,
    POSITION,
    Axes,
    counts_inputs,
    counts_only_inputs,
    has,
    neuron_places,
    resized,
    without,
)
from .lost_neurons import ONE
from .mapped import VMAP, MappedMemory, memory_of

# Why no axis of a tensor is known to hold its neurons.
ONE_NEURON = "it has one neuron for each of its entries"
OF_WEIGHTS = "computed from weights alone"
_NEVER_HAD = "no torch functions lead to it from a layer with weights"
LOST_AT = "lost at "
IN_PARTS = "hold parts of them"
INPUTS_LOST_AT = "inputs lost at "
_NEVER_HAD_INPUTS = "computed from nothing that counts inputs"


class NotedAxes:
    """What has been noted of tensors, as long as they exist: their axes, and where these were lost.

    What is forgotten of a tensor that is written to is forgotten of all that share its memory.
    """

    def __init__(self) -> None:
        self._axes: MutableMapping[Tensor, Axes] = WeakTensorKeyDictionary()
        self._weights: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()
        self._lost_at: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()
        self._inputs_lost_at: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()
        self._mapped = MappedMemory()
        self.have_other_axes = False  # some of what the model is given, beside that of the inputs

    # ---- what is known -------------------------------------------------------------------------

    def axes(self, tensor: Any) -> Axes | None:
        """Return the axes of a tensor, or None."""
        if not isinstance(tensor, Tensor):
            return None
        found = self._axes.get(tensor)
        if found is None and (part := _part_here(tensor)) is not None and part in self._axes:
            return _of_shape(self._axes[part], tensor)
        return found

    def why_unknown(self, tensor: Tensor) -> str:
        """Return why no axis of a tensor is known to hold its neurons."""
        self._recognise(tensor)
        axes, name = self._axes.get(tensor), self._lost_at.get(tensor)
        places = [i for i, axis in enumerate(axes or ()) if has(axis, NEURON)]
        if len(places) > 1:
            return f"axes {', '.join(map(str, places))} {IN_PARTS}"
        is_of_inputs = tensor.ndim == 1 and counts_only_inputs(axes)
        is_only_entry = bool(name) and tensor.ndim == 1 and len(tensor) == 1
        if name == ONE or is_only_entry or (is_of_inputs and (name or self.have_other_axes)):
            return ONE_NEURON
        if name:
            return f"{LOST_AT}{name}"
        return OF_WEIGHTS if self.is_weight(tensor) else _NEVER_HAD

    def why_inputs_are_lost(self, tensor: Tensor) -> str:
        """Return why it is not known of a tensor which of its entries belong to which input."""
        self._recognise(tensor)
        name = self._inputs_lost_at.get(tensor)
        return f"{INPUTS_LOST_AT}{name}" if name else _NEVER_HAD_INPUTS

    def _note_why_unknown(self, tensor: Tensor, cause: str) -> None:
        """Note what why_unknown() has said of a tensor before."""
        if cause == OF_WEIGHTS:
            self._weights[tensor] = True
        elif cause == ONE_NEURON:
            self._lost_at[tensor] = ONE
        elif cause.startswith(LOST_AT) and not self.is_weight(tensor):
            self._lost_at[tensor] = cause.removeprefix(LOST_AT)

    def _note_why_inputs_are_lost(self, tensor: Tensor, cause: str) -> None:
        """Note what why_inputs_are_lost() has said of a tensor before."""
        if cause.startswith(INPUTS_LOST_AT) and not self.is_weight(tensor):
            self._inputs_lost_at[tensor] = cause.removeprefix(INPUTS_LOST_AT)

    def has_lost_inputs(self, tensor: Any) -> bool:
        """Return whether a tensor was computed from inputs, and is not known to have them."""
        return isinstance(tensor, Tensor) and tensor in self._inputs_lost_at

    def _recognise(self, tensor: Any) -> None:
        """Note what torch.vmap has returned."""
        if isinstance(tensor, Tensor) and tensor not in self._axes and tensor in self._mapped:
            self._lost_at.setdefault(tensor, VMAP)
            self._inputs_lost_at.setdefault(tensor, VMAP)

    def _comes_from_inputs(self, tensor: Tensor) -> bool:
        return counts_inputs(self.axes(tensor)) or self.has_lost_inputs(tensor)

    def is_lost(self, tensor: Any) -> bool:
        """Return whether nothing is known of a tensor that was computed from neurons."""
        unknown = isinstance(tensor, Tensor) and tensor not in self._axes
        return unknown and tensor in self._lost_at

    def _leads_to_neurons(self, tensor: Tensor) -> bool:
        is_known = bool(neuron_places(self.axes(tensor) or ()))
        return is_known or tensor in self._lost_at or self.is_weight(tensor)

    def is_weight(self, tensor: Any) -> bool:
        """Return whether a tensor is a parameter, or was computed from parameters alone."""
        return isinstance(tensor, nn.Parameter) or tensor in self._weights

    def _note_axes(self, tensor: Tensor, axes: Axes) -> None:
        """Note the axes of a tensor, and of the part of it that this rank has."""
        self._axes[tensor] = axes
        if (part := _part_here(tensor)) is not None:
            self._axes[part] = _of_shape(axes, part)

    # ---- what is written to --------------------------------------------------------------------

    def _forget_what_was_moved(self, written: Tensor, before: Axes, after: Axes, name: str) -> None:
        """Forget which inputs or positions rows are of, in all that share a tensor's memory."""
        for kind in (BATCH, POSITION):
            pairs = zip(before, after, strict=True)
            if any(has(x, kind) and not has(y, kind) for x, y in pairs):
                self._forget(kind, written, name)

    def _forget(self, kind: str, written: Tensor, name: str) -> None:
        """Forget which inputs or positions all rows are of that share a tensor's memory."""
        for tensor in self._sharing_memory_with(written):
            if kind == BATCH and counts_inputs(self._axes[tensor]):
                self._inputs_lost_at[tensor] = name
            self._axes[tensor] = without(self._axes[tensor], kind)

    def _lose(self, written: Tensor, name: str) -> None:
        """Forget what is known of a tensor, and of all that share its memory."""
        for tensor in self._sharing_memory_with(written):
            del self._axes[tensor]
            self._lost_at[tensor] = name

    def _sharing_memory_with(self, written: Tensor) -> list[Tensor]:
        memory = memory_of(written)
        return [t for t in list(self._axes.keys()) if t is written or memory_of(t) == memory]


def _part_here(tensor: Tensor) -> Tensor | None:
    """Return the part of a DTensor that this rank has; None of other tensors.

    It is the tensor itself that was made one, and that is computed with when it is one no longer.
    """
    whole: Any = tensor
    return whole._local_tensor if is_spread(tensor) else None


def _of_shape(axes: Axes, tensor: Tensor) -> Axes:
    """Return the axes of a whole tensor as those of a part, or the other way round."""
    return tuple(map(resized, axes, tensor.shape))
