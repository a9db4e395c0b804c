"""PyTorch: StateCaptureHook, a capture point that is a forward hook of a module."""

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
from .operator import Receiver
from .passes import PassCounter, PassLog
from .tensors import as_importable, first_tensor


class StateCaptureHook(CapturePoint, Receiver):
    """A capture point that is used as a forward hook or forward pre-hook of a module.

    ``StateCaptureHook("name").attach(module)`` registers it. It captures the output of the module
    (as a pre-hook, its input) and changes nothing. From a tuple, mapping or dataclass it takes the
    first tensor. It does not capture fake and meta tensors, tracing, exporting, and forward passes
    that activation checkpointing repeats during backward.

    ``module.register_forward_hook(hook)`` works too, with one exception: if torch.compile has
    compiled a module of this class before, it may not notice the hook.

    The parameters are those of CapturePoint.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> hook = StateCaptureHook("linear")
    >>> hook.attach(layer)
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
        self._register(PassCounter())

    def count_passes(self, counter: PassCounter) -> None:
        """Note from now on in which passes of a model this layer ran."""
        self.pass_log = PassLog(counter)

    @property
    def passes(self) -> tuple[int, int] | None:
        return self.pass_log.passes()

    def labels_of_next_pass(self, labels: Any) -> None:
        self.labels(labels)
        self.pass_log.expect_pass()

    def receive(self, tensor: torch.Tensor, clock: int) -> None:
        if self.pass_log.note(clock):
            self.labels(None)
        self.capture(tensor)

    def reset_states(self, input_shape: Any = None) -> None:
        super().reset_states(input_shape)
        self.pass_log.restart()

    def attach(self, module: torch.nn.Module, *, before: bool = False) -> None:
        """Capture the outputs of a module from now on; ``before``: its inputs.

        It may be compiled already. Raises ValueError if the hook is attached to a module.
        """
        if self._handles:
            raise ValueError(f"{self.name} is attached to a module already; detach() it first")
        if before:
            function = self.before_with_kwargs
            handle = module.register_forward_pre_hook(function, with_kwargs=True)
        else:
            handle = module.register_forward_hook(self)
        self.active = True
        self.bind(module, handle)

    def detach(self) -> None:
        """Remove the hook from the module that it is attached to, if any."""
        if self._handles:
            self.remove()
            self.active = False  # for compiled graphs that do not check whether they still fit

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
        self.deliver(tensor)

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
        return {
            **super().__getstate__(),
            "_rule": self._rule,
            "_handles": self._handles,
            "counter": self.pass_log.counter,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        counter = state.pop("counter")
        super().__setstate__(state)
        self._register(counter)
