"""How a command runs a model: without training it, each framework in its own way."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tensorstate_gpu._arrays.frameworks import loaded_module
from tensorstate_gpu._cli.input_batches import is_array

if TYPE_CHECKING:
    import torch

Call = Callable[[object], object]


def check_device(device: str | None) -> None:
    """Raise ValueError unless PyTorch can put numbers on a device and read them, or it is None."""
    if device is None:
        return
    try:
        import torch
    except ImportError:
        raise ValueError("--device is for PyTorch, which is not installed") from None
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # AssertionError, RuntimeError: each device has its own
        reason = re.split(r"\n|\. ", str(error), maxsplit=1)[0]  # of pages of text in some cases
        raise ValueError(f"--device {device}: PyTorch cannot use it here ({reason})") from None


def call_of(model: object, device: str | None) -> Call:
    """Return a function that runs a model on the inputs of a batch.

    A PyTorch model is put on ``device``, if that is given, and into evaluation mode. Raises
    ValueError for a device of a Keras model.
    """
    if (keras := loaded_module("keras")) is None or not isinstance(model, keras.layers.Layer):
        return _torch_call(model, device)  # type: ignore[arg-type]
    if device is not None:
        raise ValueError(
            "--device is for PyTorch: Keras has put the model where its backend puts all of them"
        )
    predict: Call = model.predict_on_batch
    return predict


def _torch_call(model: torch.nn.Module, device: str | None) -> Call:
    import torch

    model.eval()
    if device is not None:
        model.to(device)
    tensors = itertools.chain(model.parameters(), model.buffers())
    at = next((tensor.device for tensor in tensors), torch.device(device or "cpu"))

    def moved(value: object) -> object:
        if not is_array(value):
            return value
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value)
        return tensor.to(at)

    @torch.inference_mode()
    def call(inputs: object) -> object:
        if isinstance(inputs, Mapping):
            return model(**{name: moved(value) for name, value in inputs.items()})
        return model(moved(inputs))

    return call
