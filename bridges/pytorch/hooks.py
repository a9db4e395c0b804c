"""PyTorch: modules become capture points through forward hooks."""

import dataclasses
import itertools
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from torch import nn
from torch._subclasses.fake_tensor import is_fake

from tensorstate_gpu._arrays.dlpack import CPU, Tensor, borrow
from tensorstate_gpu._arrays.thresholds import ELEMENT_TYPES
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._process.num_threads import beside_busy_threads
from tensorstate_gpu._states.packing import pack, working_on

from .neuron_axes import AUTO, AxisRule, find_rules, own_rule

METHODS = {"before": ("pre",), "after": ("post",), "both": ("pre", "post")}


class StateCaptureHook(CapturePoint):
    """A capture point that is a forward hook and a forward pre-hook.

    It looks at the module's output (as a pre-hook at its input), packs at once, and changes
    nothing: ``module.register_forward_hook(StateCaptureHook("name"))``. Of a tuple, mapping or
    dataclass the first tensor is taken. Not captured are: fake and meta tensors, tracing, and the
    forward passes that activation checkpointing repeats inside backward.

    Parameters are those of CapturePoint.

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

    _rule: AxisRule | None = None

    def __init__(self, name: str, disk_path: Any = None, **kwargs: Any) -> None:
        super().__init__(name, disk_path, **kwargs)
        self._enter_registry()

    def _enter_registry(self) -> None:
        self._handle: Any = None
        self._key = next(_keys)
        _hooks[self._key] = self
        # Mutated by the operator below, so that torch.compile does not remove it as without effect.
        self._anchor = torch.zeros((), dtype=torch.int32)

    def __call__(self, module: Any, args: Any, *output: Any) -> None:
        """As forward hook (module, args[, kwargs], output), or as pre-hook (module, args)."""
        # A pre-hook with_kwargs=True gets (module, args, kwargs), which looks like an output.
        if len(output) == 1 and type(output[0]) is dict and self._is_pre_hook_of(module):
            self.before_with_kwargs(module, args, output[0])
        else:
            self._see(module, output[-1] if output else args)

    def before_with_kwargs(self, module: Any, args: Any, kwargs: Any) -> None:
        """As pre-hook registered with ``with_kwargs=True``."""
        self._see(module, (args, kwargs))

    def _is_pre_hook_of(self, module: Any) -> bool:
        hooks = module._forward_pre_hooks
        return any(hooks[key] is self for key in module._forward_pre_hooks_with_kwargs)

    def _see(self, module: Any, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is None:
            raise TypeError(
                f"{self.name}: no tensor in what {type(module).__name__} passes: "
                f"{type(value).__name__}"
            )
        if self._rule is None:
            self._rule = own_rule(module) or AUTO
        if torch.compiler.is_compiling():
            torch.ops.tensorstate_gpu.capture(tensor.detach(), self._anchor, self._key)
        elif is_real_forward(tensor):
            self.capture(tensor)

    def capture(self, tensor: torch.Tensor) -> None:
        """Pack and keep the states of one batch."""
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
            tensor = tensor.transpose(0, 1)  # a view: states of an instance stay together
        axis = rule.axis(tensor.ndim) if self.neuron_axis is None else self.neuron_axis
        if tensor.ndim == 1:
            tensor, axis = tensor[None], 1
        instances = 1 if axis % tensor.ndim == 0 else tensor.shape[0]
        with beside_busy_threads():
            states = borrow(as_borrowed(tensor), "states")
            with working_on(states):
                packed, neurons = pack(states, axis, self.threshold, self.firing)
                self.record(packed, neurons, axis, instances)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_rule": self._rule, "_handle": self._handle}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._enter_registry()
        self._handle = state["_handle"]


_keys = itertools.count()
_hooks: "weakref.WeakValueDictionary[int, StateCaptureHook]" = weakref.WeakValueDictionary()

_library: Any = torch.library.Library("tensorstate_gpu", "DEF")  # type: ignore[no-untyped-call]
_library.define("capture(Tensor x, Tensor(a!) anchor, int key) -> ()")


def _capture(x: torch.Tensor, anchor: torch.Tensor, key: int) -> None:
    """What a compiled graph calls; a hook that is gone by then has nobody to read it."""
    hook = _hooks.get(key)
    if hook is not None and is_real_forward(x):
        hook.capture(x)


def _capture_fake(x: torch.Tensor, anchor: torch.Tensor, key: int) -> None:
    """Traced calls are not captured."""


_library.impl("capture", _capture, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::capture", _capture_fake, lib=_library)


def as_borrowed(tensor: torch.Tensor) -> Any:
    """A CPU tensor as the border sees it, without the 20 us of a DLPack capsule; others as such."""
    element = _ELEMENTS.get(tensor.dtype)
    plain = type(tensor) is torch.Tensor and tensor.is_cpu and tensor.layout is torch.strided
    if not plain or element is None or not tensor.data_ptr():
        return tensor
    strides = tuple(stride * element.size for stride in tensor.stride())
    return Tensor(tensor, tensor.data_ptr(), tuple(tensor.shape), strides, element, (CPU, 0))


_ELEMENTS = {
    getattr(torch, name): element for name, element in ELEMENT_TYPES.items() if hasattr(torch, name)
}


def first_tensor(value: Any, inside: tuple[Any, ...] = ()) -> torch.Tensor | None:
    """The first tensor in a nest of tuples, lists, mappings and dataclasses.

    ``inside``: what encloses the value; one that holds itself is not entered again.
    """
    if isinstance(value, torch.Tensor):
        return value
    if not torch.compiler.is_compiling() and any(value is outer for outer in inside):
        return None
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (tuple, list)):
        parts = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for part in parts:
        tensor = first_tensor(part, (*inside, value))
        if tensor is not None:
            return tensor
    return None


def is_real_forward(tensor: torch.Tensor) -> bool:
    """Whether a call is to be counted; TypeError for transforms that hide the numbers."""
    # is_fake() first asks what kind of subclass it is: needless 3 us for most.
    plain = type(tensor) is torch.Tensor and not torch._is_functional_tensor(tensor)
    if tensor.is_meta or (not plain and is_fake(tensor)):
        return False
    if torch._C._get_tracing_state() is not None:
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise TypeError("states cannot be captured inside torch.func transforms (vmap, grad, jvp)")
    # Forward inside backward is activation checkpointing: these rows were captured before.
    recomputing: bool = torch._C._current_graph_task_id() != -1
    return not recomputing


# ---- attaching ---------------------------------------------------------------------------------


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules to choose from: all submodules, or the model itself when it has none."""
    below = [(name, module) for name, module in model.named_modules() if name]
    return below or [(type(model).__name__, model)]


def class_names(layer: Any) -> tuple[str, ...]:
    """What a layer's class is called; torch makes some (ParametrizedLinear) while running."""
    kind = type(layer)
    made_from = [
        base.__name__
        for base in kind.__bases__
        if kind.__name__ in (f"Parametrized{base.__name__}", f"FSDP{base.__name__}")
    ]
    return (kind.__name__, *made_from)


def check_attachable(model: nn.Module) -> None:
    """ValueError for a compiled model: a hook added after its first call would never fire."""
    compiled = getattr(model, "_compiled_call_impl", None) is not None
    if compiled or type(model).__name__ == "OptimizedModule":
        raise ValueError(
            "model is compiled, and hooks may never fire there: attach to the plain model first, "
            "then compile it"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            "model is TorchScript, which runs no hooks: attach to the model that it was made from"
        )


def attach(
    model: nn.Module,
    chosen: list[tuple[str, nn.Module]],
    method: str,
    options: dict[str, Any],
    there: Iterable[str] = (),
) -> tuple[nn.Module, list[StateCaptureHook]]:
    """As attach_in_place(); gives the model too."""
    return model, attach_in_place(model, chosen, method, options, there)


def attach_in_place(
    model: nn.Module,
    chosen: list[tuple[str, nn.Module]],
    method: str,
    options: dict[str, Any],
    there: Iterable[str] = (),
) -> list[StateCaptureHook]:
    """Add one hook for each chosen layer and place, all or none, but for the names ``there``."""
    rules = find_rules(model)
    hooks: list[StateCaptureHook] = []
    try:
        for name, module in chosen:
            for place in METHODS[method]:
                if f"{name}_{place}_states" in there:
                    continue
                hook = StateCaptureHook(f"{name}_{place}_states", **options)
                hooks.append(hook)
                if isinstance(module, torch.jit.ScriptModule):
                    raise ValueError(f"{name} is TorchScript, which runs no hooks: exclude= it")
                hook._rule = rules[id(module)][place == "post"]
                hook._handle = _register(hook, module, place)
    except BaseException:
        detach(hooks)
        for hook in hooks:
            hook.give_up()
        raise
    return hooks


def _register(hook: StateCaptureHook, module: nn.Module, place: str) -> Any:
    if place == "pre":
        return module.register_forward_pre_hook(hook.before_with_kwargs, with_kwargs=True)
    return module.register_forward_hook(hook)


def detach(hooks: Iterable[StateCaptureHook]) -> None:
    """Remove exactly these hooks from their modules; what they captured stays."""
    for hook in hooks:
        if hook._handle is not None:
            hook._handle.remove()
            hook._handle = None


def remove(model: nn.Module, hooks: Iterable[StateCaptureHook]) -> nn.Module:
    """The model itself, without these hooks."""
    detach(hooks)
    return model


def call_after_forward(model: nn.Module, function: Any) -> Any:
    """Call ``function()`` after each forward pass, also a failed one; returns a handle."""

    def after(module: Any, args: Any, output: Any) -> None:
        function()

    return model.register_forward_hook(after, always_call=True)
