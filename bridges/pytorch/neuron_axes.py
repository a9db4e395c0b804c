"""PyTorch: where a module's neurons are by its class, where nothing else tells."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules import activation, dropout
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm


@dataclasses.dataclass(frozen=True, slots=True)
class AxisRule:
    """Where the neuron axis of a tensor is.

    ``kind``: "channels" (after the batch), "last", or "unknown" (nothing but the number of axes
    tells). ``spatial``: the number of axes of positions, if the module defines it; it reveals
    unbatched inputs. ``batch_second``: the layout is (sequence, batch, features), as in attention
    and recurrent layers. ``batch_first``: one of these has the batch first. ``defined``: the
    module's definition leaves no other axis. ``width``: the number of neurons, if the module has a
    weight for each, as norms have. ``own_forward``: whether the class only has the name of such a
    module, so tensors with other axes are something else.
    """

    kind: str
    spatial: int | None = None
    batch_second: bool = False
    batch_first: bool = False
    defined: bool = False
    width: int | None = None
    own_forward: bool = False

    @property
    def has_inputs_first(self) -> bool:
        """Whether axis 0 counts the inputs, whichever axis of the model does."""
        return self.kind == "channels" or self.batch_first

    def axes_that_fit(self, shape: Sequence[int]) -> list[int]:
        """Return the axes that have as many entries as the module has weights."""
        return [axis for axis, size in enumerate(shape) if size == self.width]

    def axis(self, ndim: int) -> int:
        """Return the neuron axis of a tensor with ``ndim`` axes, counted from the front."""
        if self.kind == "last":
            return ndim - 1
        if not self._tells_of(ndim):
            return 1 if ndim in (4, 5) else ndim - 1
        if self.kind == "channels" and self.spatial is not None:
            return max(ndim - 1 - self.spatial, 0)
        return min(1, ndim - 1)

    def is_guess(self, ndim: int) -> bool:
        """Return whether the axis is a guess. Two axes are (batch, features) almost always.

        A single one may be either; a number without axes has none to be guessed.
        """
        return not self._tells_of(ndim) and ndim not in (0, 2)

    def _tells_of(self, ndim: int) -> bool:
        """Return whether the rule is about tensors with so many axes."""
        if self.kind == "unknown" or (self.own_forward and ndim == 1):
            return False
        leading = (2,) if self.own_forward else (1, 2)  # channels, and inputs before them
        return self.spatial is None or self.defined or ndim - self.spatial in leading


UNKNOWN = AxisRule("unknown")
_LAST = AxisRule("last", defined=True)
_LAST_TYPES = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag)
_LAST_NORMS = (nn.LayerNorm, nn.RMSNorm)
_SEQUENCE_TYPES = (
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.Transformer,
)
_STACKS = (nn.TransformerEncoder, nn.TransformerDecoder)
_POOLING = re.compile(r"Pool(\d)d$")
# Blocks of other libraries, recognised by the names of their classes.
_BLOCK = re.compile(r"attention|attn|mlp|feedforward", re.IGNORECASE)


def axis_rule_of(module: Any) -> AxisRule | None:
    """Return the rule for a module's class; None for classes without one, such as activations."""
    rule = _rule_of_class(module)
    if rule is None:
        return None
    own_forward = _has_own_forward(module)
    if rule.defined and not own_forward:
        return rule
    width = _width_of(module)
    return dataclasses.replace(rule, defined=False, width=width, own_forward=own_forward)


def _rule_of_class(module: Any) -> AxisRule | None:
    if isinstance(module, _ConvNd):
        return AxisRule("channels", len(module.kernel_size), defined=True)
    if isinstance(module, _InstanceNorm):
        return AxisRule("channels", _rank(module), defined=True)
    if isinstance(module, (_NormBase, nn.GroupNorm)):
        return AxisRule("channels", defined=True)
    if isinstance(module, _SEQUENCE_TYPES):
        attention = getattr(module, "self_attn", module)
        second = not getattr(attention, "batch_first", True)
        return AxisRule("last", batch_second=second, batch_first=not second, defined=True)
    if isinstance(module, _STACKS):
        return axis_rule_of(next(iter(module.layers), None)) or _LAST
    if isinstance(module, _LAST_NORMS):
        # Of several axes that are normalised together, no definition says which holds the neurons.
        return AxisRule("last", defined=True) if len(module.normalized_shape) == 1 else UNKNOWN
    if isinstance(module, _LAST_TYPES):
        return _LAST
    return _rule_of_quantized(module) or _rule_of_name(module)


def _rule_of_quantized(module: Any) -> AxisRule | None:
    """Return the rule of a quantised layer, which has no class in common with the one it replaces.

    By the names of its classes: to import torch.ao takes long.
    """
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.ao.nn.quantized."):
            if kind.__name__ == "_ConvNd":
                return AxisRule("channels", len(module.kernel_size), defined=True)
            if kind.__name__ in ("Linear", "Embedding", "EmbeddingBag"):
                return _LAST
            if kind.__name__ == "RNNBase":
                first = module.batch_first
                return AxisRule("last", batch_second=not first, batch_first=first, defined=True)
    return None


def _rule_of_name(module: Any) -> AxisRule | None:
    if isinstance(module, (nn.LocalResponseNorm, nn.CrossMapLRN2d)):
        return AxisRule("channels")
    name = type(module).__name__
    pooling = _POOLING.search(name)
    if pooling:
        return AxisRule("channels", int(pooling[1]))
    return AxisRule("last", 1) if _BLOCK.search(name) else None  # of images, nothing tells


def _width_of(module: Any) -> int | None:
    """Return the number of entries of a module's weight and bias, if they have one axis."""
    parameters = dict(module.named_parameters(recurse=False))
    if not {"weight"} <= parameters.keys() <= {"weight", "bias"}:
        return None  # a parameter of another name may be one for each position
    shapes = {tuple(parameter.shape) for parameter in parameters.values()}
    sizes = shapes.pop() if len(shapes) == 1 else ()
    return sizes[0] if len(sizes) == 1 and sizes[0] > 1 else None


def _rank(module: Any) -> int | None:
    digit = re.search(r"(\d)d", type(module).__name__)
    return int(digit[1]) if digit else None


def _has_own_forward(module: Any) -> bool:
    """Return whether a module's forward is not PyTorch's: it may move axes before or after."""
    return not type(module).forward.__module__.startswith("torch.")


def find_rules(model: Any) -> dict[int, tuple[AxisRule, AxisRule]]:
    """Return, for each module by id, the rules of its input and of its output.

    An activation or dropout has the rule of the module before it, which is known inside
    nn.Sequential. Elsewhere it is UNKNOWN.
    """
    rules: dict[int, tuple[AxisRule, AxisRule]] = {}
    _assign_rules(model, UNKNOWN, rules)
    return rules


def _assign_rules(
    module: Any, fed: AxisRule, rules: dict[int, tuple[AxisRule, AxisRule]]
) -> AxisRule:
    """Assign rules to a module and all inside it; return the rule of its output.

    ``fed``: the rule of the module that feeds it.
    """
    own = axis_rule_of(module)
    # What feeds a module is a rule of thumb for it, not its definition.
    fed = dataclasses.replace(fed, defined=False, width=None)
    here = own or dataclasses.replace(fed, width=_width_of(module))
    before, after = here, here
    if isinstance(module, nn.Sequential):
        first = next(iter(module), None)
        before = axis_rule_of(first) or fed
        after = fed
        for child in module:
            after = _assign_rules(child, after, rules)
    elif next(module.children(), None) is not None:
        for child in module.children():
            _assign_rules(child, UNKNOWN, rules)
        after = own or UNKNOWN
    elif own is None and not _keeps_axes(module):
        after = dataclasses.replace(UNKNOWN, width=here.width)
    if id(module) in rules and rules[id(module)] != (before, after):
        before, after = UNKNOWN, UNKNOWN  # a shared module with different modules before it
    rules[id(module)] = (before, after)
    return after


def _keeps_axes(module: Any) -> bool:
    """Return whether a module works by element."""
    modules = (activation.__name__, dropout.__name__, nn.Identity.__module__)
    if isinstance(module, (nn.Flatten, nn.Unflatten)):
        return False
    return type(module).__module__ in modules
