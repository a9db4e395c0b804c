"""PyTorch: what the definition of a module says: whether it has a kernel, and how many neurons."""

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.lazy import LazyModuleMixin

from .neuron_axes import axis_rule_of

_WITH_KERNEL = (
    *(_ConvNd, nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag),
    *(nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention),
)
_QUANTIZED = {
    *(f"torch.ao.nn.quantized.modules.{name}" for name in ("conv", "linear", "embedding_ops")),
    "torch.ao.nn.quantized.dynamic.modules.rnn",
}
# Attention computes with the weights of this one, and does not call it.
_NEVER_CALLED = "NonDynamicallyQuantizableLinear"
_OUTPUTS = ("out_channels", "out_features", "embedding_dim", "num_features", "num_channels")
_INPUTS = ("in_channels", "in_features", "num_features", "num_channels")


def has_kernel(module: nn.Module) -> bool:
    """Return whether a module has weights of two or more axes of its own, as no norm has."""
    if type(module).__name__ == _NEVER_CALLED:
        return False
    if isinstance(module, _WITH_KERNEL) or _is_quantized(module):
        return True
    parameters = module.parameters(recurse=False)
    leaf = next(module.children(), None) is None and not isinstance(module, LazyModuleMixin)
    return leaf and any(parameter.ndim >= 2 for parameter in parameters) and not _is_helper(module)


def _is_quantized(module: nn.Module) -> bool:
    """Return whether a module is a quantised one with weights, also one that is fused with a ReLU.

    These have a module inside that holds their weights, and is never called.
    """
    kinds = type(module).__mro__
    return any(kind.__module__ in _QUANTIZED and "Packed" not in kind.__name__ for kind in kinds)


def _is_helper(module: nn.Module) -> bool:
    """Return whether a module only makes the weights of another one: weight_norm and its like."""
    return type(module).__module__ == "torch.nn.utils.parametrize"


def takes_indices(module: nn.Module) -> bool:
    """Return whether the inputs of a module are indices, of words for example."""
    named = (kind for kind in type(module).__mro__ if kind.__module__.startswith("torch."))
    return any(kind.__name__ in ("Embedding", "EmbeddingBag") for kind in named)  # quantised, too


def neurons(module: nn.Module, place: str) -> int | None:
    """Return the number of neurons at a place, "pre" or "post", if the definition tells."""
    rule = axis_rule_of(module)
    if rule is None or not rule.defined:
        return None
    sizes: list[Any] = [
        getattr(module, name, None) for name in (_INPUTS if place == "pre" else _OUTPUTS)
    ]
    return next((size for size in sizes if isinstance(size, int) and size > 0), None)
