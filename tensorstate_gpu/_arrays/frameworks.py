"""Frameworks: which of them the program has loaded, and the bridge of each.

No other file names a bridge. A framework that the program has not imported is not imported here.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, cast

from tensorstate_gpu._arrays.array_types import ArrayT

_BRIDGES = "tensorstate_gpu.bridges"

# Public names that need a framework, and their modules below ``tensorstate_gpu``.
PUBLIC_NAMES = {
    "StateCapture": "bridges.keras3.functional",  # all that a saved model is made of
    "StateCaptureHook": "bridges.pytorch.hooks",
    "tap": "bridges.jax_tap",
}


class JaxFunctions(Protocol):
    """The array functions of the JAX bridge, for arrays inside a transformation."""

    def compress(self, states: ArrayT, neuron_axis: int, threshold: Any) -> ArrayT: ...
    def decompress(self, states: ArrayT, neurons: int) -> ArrayT: ...
    def popcount(self, states: ArrayT) -> ArrayT: ...


def loaded_module(name: str) -> ModuleType | None:
    """A framework's module, if this program has imported it; else None."""
    return sys.modules.get(name)


def is_torch_tensor(value: object) -> bool:
    """Whether a value is a torch.Tensor; torch is not imported for the question."""
    torch = loaded_module("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def bridge_of(model: Any) -> Any:
    """The bridge of a model's framework: a module with the functions of the Bridge protocol.

    TypeError for what is no model of a framework that is loaded.
    """
    keras, torch = loaded_module("keras"), loaded_module("torch")
    if keras is not None and isinstance(model, keras.layers.Layer):  # on torch a module as well
        return import_module(f"{_BRIDGES}.keras3.models")
    if torch is not None and isinstance(model, torch.nn.Module):
        return import_module(f"{_BRIDGES}.pytorch.models")
    raise TypeError(f"model must be a Keras model or a torch.nn.Module, got {type(model).__name__}")


def jax_tracing(array: object) -> JaxFunctions | None:
    """JAX's array functions, where an array stands for one inside a transformation; else None."""
    jax = loaded_module("jax")
    if jax is None or not isinstance(array, jax.core.Tracer):
        return None
    return cast(JaxFunctions, import_module(f"{_BRIDGES}.jax_functions"))


def register_pytrees() -> None:
    """Let JAX, where it is loaded, know histograms as values."""
    if "jax" in sys.modules:
        import_module(f"{_BRIDGES}.jax_functions")
