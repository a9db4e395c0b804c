"""PyTorch: rules for the neuron axis of a module's inputs and outputs."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True, slots=True)
class AxisRule:
    """Where the neuron axis of a tensor is.

    ``kind``: "channels" (after the batch), "last", or "auto" (depends on the number of axes).
    ``spatial``: the number of axes after the channels, if the module defines it; it reveals
    unbatched inputs. ``batch_second``: the layout is (sequence, batch, features), as in attention
    and recurrent layers.
    """

    kind: str
    spatial: int | None = None
    batch_second: bool = False

    def axis(self, ndim: int) -> int:
        """Return the neuron axis of a tensor with ``ndim`` axes, counted from the front."""
        if self.kind == "channels" and self.spatial is not None:
            return max(ndim - 1 - self.spatial, 0)
        if self.kind == "channels" or (self.kind == "auto" and ndim in (4, 5)):
            return min(1, ndim - 1)
        return ndim - 1


AUTO = AxisRule("auto")
_LAST = AxisRule("last")
_LAST_TYPES = (
    nn.Linear,
    nn.Bilinear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.EmbeddingBag,
)
_SEQUENCE_TYPES = (
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.Transformer,
)
_POOLING = re.compile(r"Pool(\d)d$")
# Blocks of other libraries, recognised by the names of their classes.
_BLOCK = re.compile(r"attention|attn|mlp|feedforward", re.IGNORECASE)


def axis_rule_of(module: Any) -> AxisRule | None:
    """Return the rule for a module's type; None for types without one, such as activations."""
    if isinstance(module, _ConvNd):
        return AxisRule("channels", len(module.kernel_size))
    if isinstance(module, (_NormBase, nn.GroupNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d)):
        return AxisRule("channels")
    if isinstance(module, _SEQUENCE_TYPES):
        attention = getattr(module, "self_attn", module)
        return AxisRule("last", batch_second=not attention.batch_first)
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        return axis_rule_of(next(iter(module.layers), None)) or _LAST
    if isinstance(module, _LAST_TYPES):
        return _LAST
    name = type(module).__name__
    pooling = _POOLING.search(name)
    if pooling:
        return AxisRule("channels", int(pooling[1]))
    return _LAST if _BLOCK.search(name) else None


def find_rules(model: Any) -> dict[int, tuple[AxisRule, AxisRule]]:
    """Return, for each module by id, the rules of its input and of its output.

    A module without a rule gets that of the module before it, which is known inside nn.Sequential.
    Elsewhere it gets AUTO.
    """
    rules: dict[int, tuple[AxisRule, AxisRule]] = {}
    _assign_rules(model, AUTO, rules)
    return rules


def _assign_rules(
    module: Any, fed: AxisRule, rules: dict[int, tuple[AxisRule, AxisRule]]
) -> AxisRule:
    """Assign rules to a module and all inside it; return the rule of its output.

    ``fed``: the rule of the module that feeds it.
    """
    own = axis_rule_of(module)
    before, after = (own, own) if own else (fed, fed)
    if isinstance(module, nn.Sequential):
        first = next(iter(module), None)
        before = axis_rule_of(first) or fed
        after = fed
        for child in module:
            after = _assign_rules(child, after, rules)
    elif isinstance(module, (nn.Flatten, nn.Unflatten)):
        after = AUTO
    elif next(module.children(), None) is not None:
        for child in module.children():
            _assign_rules(child, AUTO, rules)
        after = own or AUTO
    if id(module) in rules and rules[id(module)] != (before, after):
        before, after = AUTO, AUTO  # a shared module with different modules before it
    rules[id(module)] = (before, after)
    return after
