"""Frameworks: which of them the program has imported, and the bridge of each.

Only this file knows which bridge belongs to which framework. It imports no framework that the
program has not imported.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import ArrayT
from tensorstate_gpu._arrays.ranks_protocol import Ranks

_BRIDGES = "tensorstate_gpu.bridges"

# Public names that need a framework: their modules below ``tensorstate_gpu``.
PUBLIC_NAMES = {
    "PaddedCounts": "bridges.jax_counts",
    "count_stores": "bridges.dask_arrays",
    "StateCapture": "bridges.keras3.functional",  # imports all parts of a saved model
    "StateCaptureHook": "bridges.pytorch.hooks",
    "tap": "bridges.jax_tap",
}
# The callbacks of tensorstate_gpu.training, in the same way.
CALLBACKS = {
    "EfficiencyCallback": "bridges.huggingface_callback",
    "EfficiencyMonitor": "bridges.lightning_callback",
    "StateEfficiency": "bridges.keras3.callback",
}
_FRAMEWORKS = {
    "EfficiencyCallback": "transformers",
    "EfficiencyMonitor": "lightning",
    "PaddedCounts": "jax",
    "StateEfficiency": "keras",
    "StateCapture": "keras",
    "StateCaptureHook": "torch",
    "count_stores": "dask",
    "tap": "jax",
}


class JaxFunctions(Protocol):
    """The array functions of the JAX bridge, for arrays inside a transformation."""

    def compress(self, states: ArrayT, neuron_axis: int, threshold: Any) -> ArrayT: ...
    def decompress(self, states: ArrayT, neurons: int) -> ArrayT: ...
    def popcount(self, states: ArrayT) -> ArrayT: ...
    def firing_counts(self, states: ArrayT) -> ArrayT: ...
    def distances(self, one: ArrayT, other: ArrayT) -> ArrayT: ...
    def isin(self, states: ArrayT, reference: ArrayT) -> ArrayT: ...
    def namespace(self) -> object: ...


class PaddedHistogram(Protocol):
    """PaddedCounts of the JAX bridge, for type checkers."""

    packed: Any
    counts: Any
    distinct: Any
    total: Any
    neurons: int
    fill_value: int

    @property
    def size(self) -> int: ...
    @property
    def overflow(self) -> Any: ...
    def merge(self, other: Any, /) -> "PaddedHistogram": ...
    def merge_over(self, axis_name: str) -> "PaddedHistogram": ...
    def entropy(self) -> Any: ...
    def to_counts(self) -> Any: ...


class JaxCounts(Protocol):
    """Counting in the JAX bridge, in arrays of a fixed size."""

    def count(
        self, states: object, neurons: int | None, size: int, fill_value: int
    ) -> PaddedHistogram: ...


def loaded_module(name: str) -> ModuleType | None:
    """Return a framework's module if this program has imported it, otherwise None."""
    return sys.modules.get(name)


def names_without_framework(names: Iterable[str] = PUBLIC_NAMES) -> list[str]:
    """Return the public names whose framework is not installed."""
    return [name for name in names if not is_installed(_FRAMEWORKS[name])]


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return module in sys.modules or find_spec(module) is not None
    except ImportError:  # of an import hook that forbids it
        return False


def as_tensor(array: NDArray[np.generic]) -> object:
    """Return a torch tensor with a copy of an array. torch must have been imported."""
    torch = sys.modules["torch"]
    tensor: object = torch.from_numpy(array.copy())
    return tensor


def is_torch_tensor(value: object) -> bool:
    """Return whether a value is a torch.Tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


class _RanksOfTorch(Protocol):
    """The part of the PyTorch bridge that communicates."""

    def ranks_of(self, process_group: object) -> Ranks: ...


def ranks_of(process_group: object) -> Ranks:
    """Return the ranks of a process group of torch.distributed; None stands for the default one.

    Raises RuntimeError if there is none: without one, a program is a single process.
    """
    if loaded_module("torch") is None:
        raise RuntimeError(NO_RANKS)
    bridge = cast(_RanksOfTorch, import_module(f"{_BRIDGES}.pytorch.ranks"))
    return bridge.ranks_of(process_group)


NO_RANKS = "there are no ranks: call torch.distributed.init_process_group() first, in each process"


def bridge_of(model: Any) -> Any:
    """Return the bridge of a model's framework: a module with the functions of the Bridge protocol.

    Raises TypeError if the argument is not a model of an imported framework.
    """
    return import_module(f"{_package_of(model)}.models")


def graphs_of(model: object) -> object:
    """Return the module of a model's bridge that has its graph. Raises TypeError as bridge_of()."""
    return import_module(f"{_package_of(model)}.graphs")


def _package_of(model: object) -> str:
    keras, torch = loaded_module("keras"), loaded_module("torch")
    # Keras first: with its torch backend, a layer is also a torch module.
    if keras is not None and isinstance(model, keras.layers.Layer):
        return f"{_BRIDGES}.keras3"
    if keras is not None and _is_compiled(model, keras.layers.Layer):
        raise TypeError(
            "torch.compile has compiled a Keras model: pass that, and call the compiled one"
        )
    if torch is not None and isinstance(model, torch.nn.Module):
        return f"{_BRIDGES}.pytorch"
    hint = "" if loaded_module("jax") is None else "; in functions of JAX, tap() captures"
    given = type(model).__name__
    if isinstance(model, type):
        given, hint = f"the class {model.__name__}", f": pass a model of it, {model.__name__}(...)"
    raise TypeError(f"model must be a Keras model or a torch.nn.Module, got {given}{hint}")


def _is_compiled(model: object, kind: type) -> bool:
    """Return whether a model is what torch.compile makes of one of a kind."""
    is_wrapper = type(model).__name__ == "OptimizedModule"
    return is_wrapper and isinstance(getattr(model, "_orig_mod", None), kind)


def jax_tracing(array: object) -> JaxFunctions | None:
    """Return the JAX bridge if the array is traced by a JAX transformation, otherwise None."""
    jax = loaded_module("jax")
    return _jax_functions() if jax is not None and isinstance(array, jax.core.Tracer) else None


def jax_in_place(array: object) -> JaxFunctions | None:
    """Return the JAX bridge if it is to work where the array is: traced, or on its devices."""
    if "jax" not in sys.modules:
        return None
    return jax_tracing(array) or (_jax_functions() if on_jax_devices(array) else None)


def on_jax_devices(array: object) -> bool:
    """Return whether an array has its parts on several devices of JAX, or is on a second CPU.

    DLPack knows neither.
    """
    jax = loaded_module("jax")
    if jax is None or not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    devices = array.devices()
    return len(devices) > 1 or any(each.platform == "cpu" and each.id for each in devices)


class DaskArrays(Protocol):
    """Counting in the Dask bridge. With a path it returns a StoredCounts, else a StateCounts."""

    def count_array(self, states: object, neurons: int | None, to: object) -> object: ...


def dask_counting(array: object) -> DaskArrays | None:
    """Return the Dask bridge if this is a Dask array, otherwise None."""
    dask = loaded_module("dask.array")
    if dask is None or not isinstance(array, dask.Array):
        return None
    return cast(DaskArrays, import_module(f"{_BRIDGES}.dask_arrays"))


def jax_counts() -> JaxCounts:
    """Return the part of the JAX bridge that counts. Raises ImportError without JAX."""
    return cast(JaxCounts, import_module(f"{_BRIDGES}.jax_counts"))


def _jax_functions() -> JaxFunctions:
    return cast(JaxFunctions, import_module(f"{_BRIDGES}.jax_functions"))
