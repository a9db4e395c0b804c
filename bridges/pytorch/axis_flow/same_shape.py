"""Functions that work by element, or whose outputs are shaped as their inputs."""

import functools

import torch
from torch import Tensor

from .calls import RULES, Call, Result, Rule, fits, rule
from .factors import NEURON, Axis, has, join, other, reordered

_OPERATORS = {
    f"__{prefix}{name}__": name
    for prefix in ("", "r", "i")
    for name in ("add", "sub", "mul", "pow", "and", "or", "xor")
} | {
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__itruediv__": "div",
    "__rdiv__": "div",
    "__idiv__": "div",
    "__floordiv__": "div",
    "__rfloordiv__": "div",
    "__neg__": "neg",
    "__pos__": "positive",
    "__div__": "div",
    "__ifloordiv__": "div",
    "__abs__": "abs",
    "__invert__": "bitwise_not",
    "__eq__": "eq",
    "__ne__": "ne",
    "__lt__": "lt",
    "__le__": "le",
    "__gt__": "gt",
    "__ge__": "ge",
    "__mod__": "remainder",
    "__rmod__": "remainder",
    "__imod__": "remainder",
}


def rule_of(name: str) -> Rule | None:
    """Return the rule of a function, by its name; in-place functions have that of the others."""
    if name in RULES:
        return RULES[name]
    plain = _OPERATORS.get(name, name if name.startswith("__") else name.rstrip("_"))
    return RULES.get(plain) or (elementwise if _is_pointwise(plain) else None)


@functools.cache
def _is_pointwise(name: str) -> bool:
    """Return whether PyTorch says of its operators of that name that they work by element."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    try:
        overloads = packet.overloads()
    except AttributeError:
        return False
    return any(torch.Tag.pointwise in getattr(packet, each).tags for each in overloads)


@rule(
    "add sub mul div and or xor where clamp lerp addcmul addcdiv prelu rsub maximum minimum "
    "true_divide multiply subtract divide floor_divide absolute negative fix isclose isreal "
    "complex polar greater greater_equal less less_equal not_equal arccos arccosh arcsin arcsinh "
    "arctan arctan2 arctanh kl_div binary_cross_entropy_with_logits"
)
def elementwise(call: Call) -> Result:
    known = call.all_known()
    if not known or _has_wider_lost(call):
        return None
    return join(known, call.shape)


def _has_wider_lost(call: Call) -> bool:
    """Return whether what is known of the result is known from a factor of it alone."""
    lost = [_width(t) for t in call.tensors if call.is_lost(t)]
    known = [_width(t) for t in call.tensors if any(map(_holds, call.known(t) or ()))]
    return bool(lost and known) and max(lost) > max(known)


def _width(tensor: Tensor) -> int:
    """Return the number of axes with more than one entry."""
    return sum(size > 1 for size in tensor.shape)


def _holds(axis: Axis) -> bool:
    return has(axis, NEURON)


@rule(
    "clone contiguous to type type_as float half double bfloat16 int long bool cuda cpu detach "
    "byte char short cfloat cdouble chalf bernoulli poisson normal exponential geometric cauchy "
    "log_normal random randint_like requires_grad data real imag conj resolve_conj resolve_neg "
    "positive dropout dropout1d "
    "dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout rrelu relu relu6 gelu "
    "silu mish hardswish hardsigmoid hardtanh elu selu celu leaky_relu logsigmoid log_sigmoid "
    "tanhshrink softsign softshrink hardshrink softplus threshold _threshold sigmoid tanh softmax "
    "log_softmax _safe_softmax special_expit special_softmax special_log_softmax "
    "native_dropout fake_quantize_per_tensor_affine fake_quantize_per_channel_affine "
    "fused_moving_avg_obs_fake_quant softmin gumbel_softmax normalize cumsum cumprod logcumsumexp "
    "masked_fill "
    "zeros_like ones_like empty_like full_like rand_like randn_like local_response_norm tril triu "
    "fill zero nan_to_num quantize_per_tensor dequantize alias lift_fresh record_stream pin_memory "
    "_c10d_functional.all_reduce _c10d_functional.wait_tensor "
    "_c10d_functional._wrap_tensor_autograd"  # sums of ranks, which may be on their way
)
def _same(call: Call) -> Result:
    axes = call.known(call.input if isinstance(call.input, Tensor) else call.tensors[0])
    return axes if axes is None or fits(axes, call.out) else None


@rule("flip roll")
def _reordered(call: Call) -> Result:
    """The entries of some axes change places: these no longer say which input is which."""
    axes = call.input_axes
    dims = call.argument(2 if call.name == "roll" else 1, "dims")
    if axes is None:
        return None
    if dims is None or dims == ():  # rolled as one long axis
        return tuple(map(reordered, axes)) if len(axes) == 1 else None
    dims = (dims,) if isinstance(dims, int) else dims
    moved = {dim % len(axes) for dim in dims}
    return tuple(reordered(axis) if i in moved else axis for i, axis in enumerate(axes))


@rule("fliplr flipud")
def _flipped(call: Call) -> Result:
    axes, moved = call.input_axes, int(call.name == "fliplr")
    if axes is None:
        return None
    return (*axes[:moved], reordered(axes[moved]), *axes[moved + 1 :])


@rule("sort argsort msort topk")
def _ranked(call: Call) -> Result:
    """Along the axis that is sorted, entries are ranks: neither neurons nor inputs."""
    axes = call.input_axes
    given = call.argument(2 if call.name == "topk" else 1, "dim")
    dim = 0 if call.name == "msort" else -1 if given is None else given
    if axes is None or not isinstance(dim, int):
        return None
    dim %= len(axes)
    each = (*axes[:dim], other(call.shape[dim]), *axes[dim + 1 :])
    return [each] * len(call.outputs)


@rule("broadcast_tensors")
def _broadcast(call: Call) -> Result:
    return [
        None if (axes := call.known(t)) is None else join([axes], out.shape)
        for t, out in zip(call.tensors, call.outputs, strict=False)
    ]
