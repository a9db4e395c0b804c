"""PyTorch: the mask of a pass, and the positions of the model's inputs that it is about."""

import torch

from tensorstate_gpu._capturing.pass_notes import (
    Mask,
    PassNotes,
    common_beginning,
    validated_mask,
)

from .axis_flow import KnownAxes
from .given_tensors import Given


class MaskArgument:
    """The argument of a model that is the mask, if any. ``name``: of it.

    ``batch_axis``: of the tensors that the model is given.
    """

    def __init__(self, name: str | None, batch_axis: int) -> None:
        self.name, self._batch_axis = name, batch_axis

    def mask_of(self, given: Given, notes: PassNotes) -> Mask | None:
        """Return the mask of a pass: that of the user, or the model's argument."""
        if notes.mask is not None or self.name is None:
            return notes.mask
        named = given.named(self.name)
        if named is None or named.ndim != 2:
            return None
        return validated_mask(named.detach())

    def mark_positions(self, known: KnownAxes, given: Given, mask: Mask) -> None:
        """Mark the positions that a mask is about: of the first tensor that has as many.

        Of several, it is the one whose name begins most like the mask's: decoder_attention_mask is
        about decoder_input_ids.
        """
        name = self.name or ""
        fitting = [
            (key, tensor)
            for key, tensor in given.tensors
            if not (name and key == name) and self._sizes(tensor) == mask.shape
        ]
        if fitting:
            _, tensor = max(fitting, key=lambda each: common_beginning(each[0], name))
            known.mark_positions(tensor, self._position_axis(tensor))

    def _position_axis(self, tensor: torch.Tensor) -> int:
        """Positions are along the first axis that is not that of the inputs."""
        return 1 if self._batch_axis % tensor.ndim == 0 else 0

    def _sizes(self, tensor: torch.Tensor) -> tuple[int, int] | None:
        """Return the number of inputs and of positions."""
        if tensor.ndim < 2 or not -tensor.ndim <= self._batch_axis < tensor.ndim:
            return None
        return tensor.shape[self._batch_axis], tensor.shape[self._position_axis(tensor)]
