"""PyTorch: StateCaptureHook, a capture point that is a forward hook of a module."""

import contextlib
from collections.abc import Callable
from typing import Any, Unpack

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._process.num_threads import prefer_single_thread
from tensorstate_gpu._states.packing import pack, working_on

from .neuron_axes import AUTO, AxisRule, axis_rule_of
from .operator import hooks_by_key, new_keys
from .tensors import as_importable, first_tensor, is_real_forward


class StateCaptureHook(CapturePoint):
    """A capture point that is used as a forward hook or forward pre-hook of a module.

    Register it with ``module.register_forward_hook(StateCaptureHook("name"))``. It captures the
    output of the module (as a pre-hook, its input) and changes nothing. A copy of the hook has what
    was captured, and captures nothing itself. From a tuple, mapping or
    dataclass it takes the first tensor. It does not capture fake and meta tensors, tracing, and
    forward passes that activation checkpointing repeats during backward.

    The parameters are those of CapturePoint.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> hook = StateCaptureHook("linear")
    >>> _ = layer.register_forward_hook(hook)
    >>> _ = layer(torch.ones(5, 3))
    >>> hook.state_count, hook.neurons
    (5, 2)
    """

    __module__ = "tensorstate_gpu"

    _rule: AxisRule | None = None

    @takes_options
    def __init__(
        self,
        name: str,
        disk_path: Any = None,
        *,
        options: CaptureOptions | None = None,
        **keywords: Unpack[CaptureKeywords],
    ) -> None:
        super().__init__(name, disk_path, options=options, **keywords)
        self._register()

    def _register(self) -> None:
        self._handle: Any = None
        self._key = next(new_keys)
        hooks_by_key[self._key] = self
        # The operator declares that it mutates this tensor, so torch.compile keeps the call.
        self._anchor = torch.zeros((), dtype=torch.int32)

    def __call__(self, module: Any, args: Any, *output: Any) -> None:
        """Called as forward hook (module, args[, kwargs], output) or pre-hook (module, args)."""
        # A pre-hook with_kwargs=True gets (module, args, kwargs), which looks like an output.
        if len(output) == 1 and type(output[0]) is dict and self._is_pre_hook_of(module):
            self.before_with_kwargs(module, args, output[0])
        else:
            self._capture_value(module, output[-1] if output else args)

    def before_with_kwargs(self, module: Any, args: Any, kwargs: Any) -> None:
        """Called as a pre-hook that is registered with ``with_kwargs=True``."""
        self._capture_value(module, (args, kwargs))

    def _is_pre_hook_of(self, module: Any) -> bool:
        hooks = module._forward_pre_hooks
        return any(hooks[key] is self for key in module._forward_pre_hooks_with_kwargs)

    def _capture_value(self, module: Any, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is None:
            raise TypeError(
                f"{self.name}: no tensor in what {type(module).__name__} passes: "
                f"{type(value).__name__}"
            )
        if self._rule is None:
            self._rule = axis_rule_of(module) or AUTO
        if torch.compiler.is_compiling():
            torch.ops.tensorstate_gpu.capture(tensor.detach(), self._anchor, self._key)
        elif is_real_forward(tensor):
            self.capture(tensor)

    def capture(self, tensor: torch.Tensor) -> None:
        """Pack and record the states of one batch."""
        try:
            self._capture(tensor)
        except (TypeError, ValueError) as error:
            error.add_note(f"while capturing {self.name}")
            raise

    def _capture(self, tensor: torch.Tensor) -> None:
        if tensor.is_nested:
            raise TypeError(
                f"{self.name}: nested tensors cannot be captured; an nn.TransformerEncoder makes "
                "none with enable_nested_tensor=False"
            )
        if tensor.is_neg():
            tensor = tensor.resolve_neg()
        rule = self._rule or AUTO
        if tensor.ndim == 0:
            raise ValueError(f"{self.name}: a state needs an axis of neurons, got a 0-d tensor")
        if rule.batch_second and tensor.ndim == 3:
            tensor = tensor.transpose(0, 1)  # a view that keeps the states of an instance together
        axis = rule.axis(tensor.ndim) if self.neuron_axis is None else self.neuron_axis
        if tensor.ndim == 1:
            tensor, axis = tensor[None], 1
        instances = 1 if axis % tensor.ndim == 0 else tensor.shape[0]
        with prefer_single_thread():
            states = borrow(as_importable(tensor), "states")
            with working_on(states):
                packed, neurons = pack(states, axis, self.threshold, self.firing)
                self.intake.record(packed, neurons, axis, instances)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _REGISTRATION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.intake.stop()  # a model that is copied copies its hooks too
        self._register()


_REGISTRATION = {"_handle", "_key", "_anchor"}  # what _register() sets


class AttachedHook:
    """What a module calls as a hook. A copy, which a copy of the module has, does nothing.

    A pickle of it needs no tensorstate_gpu, so a model that is saved while it is captured can be
    loaded without.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> None:
        self._function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        # This method takes any arguments and does nothing.
        return getattr, (contextlib.nullcontext(), "__exit__")
