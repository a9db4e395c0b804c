"""Along which axis the neurons of a PyTorch module's output lie."""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True, slots=True)
class AxisRule:
    """``kind``: "channels" (behind the batch), "last", or "auto" (by the number of axes).

    ``spatial``: how many axes follow the channels, where the module says so: it tells an unbatched
    input. ``batch_second``: (sequence, batch, features), as attention and recurrent layers have it.
    """

    kind: str
    spatial: int | None = None
    batch_second: bool = False

    def axis(self, ndim: int) -> int:
        """The neuron axis of a tensor of ``ndim`` axes, counted from the front."""
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
# Blocks of other libraries, known by the words their classes are named with.
_BLOCK = re.compile(r"attention|attn|mlp|feedforward", re.IGNORECASE)


def own_rule(module: Any) -> AxisRule | None:
    """The rule that a module's type gives; None for activations and others without one."""
    if isinstance(module, _ConvNd):
        return AxisRule("channels", len(module.kernel_size))
    if isinstance(module, (_NormBase, nn.GroupNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d)):
        return AxisRule("channels")
    if isinstance(module, _SEQUENCE_TYPES):
        attention = getattr(module, "self_attn", module)
        return AxisRule("last", batch_second=not attention.batch_first)
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        return own_rule(next(iter(module.layers), None)) or _LAST
    if isinstance(module, _LAST_TYPES):
        return _LAST
    name = type(module).__name__
    pooling = _POOLING.search(name)
    if pooling:
        return AxisRule("channels", int(pooling[1]))
    return _LAST if _BLOCK.search(name) else None


def find_rules(model: Any) -> dict[int, tuple[AxisRule, AxisRule]]:
    """For each module, by id: the rule of its input and of its output.

    A module without a rule of its own has that of the module that feeds it, which is known inside
    nn.Sequential; elsewhere it is AUTO.
    """
    rules: dict[int, tuple[AxisRule, AxisRule]] = {}
    _follow(model, AUTO, rules)
    return rules


def _follow(module: Any, fed: AxisRule, rules: dict[int, tuple[AxisRule, AxisRule]]) -> AxisRule:
    """Give rules to a module fed with ``fed`` and to all inside it; return its output's rule."""
    own = own_rule(module)
    before, after = (own, own) if own else (fed, fed)
    if isinstance(module, nn.Sequential):
        first = next(iter(module), None)
        before = own_rule(first) or fed
        after = fed
        for child in module:
            after = _follow(child, after, rules)
    elif isinstance(module, (nn.Flatten, nn.Unflatten)):
        after = AUTO
    elif next(module.children(), None) is not None:
        for child in module.children():
            _follow(child, AUTO, rules)
        after = own or AUTO
    if id(module) in rules and rules[id(module)] != (before, after):
        before, after = AUTO, AUTO  # a shared module that is fed in different ways
    rules[id(module)] = (before, after)
    return after
