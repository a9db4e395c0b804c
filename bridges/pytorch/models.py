"""PyTorch: attaches capture points to the modules of a model."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from torch import nn

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu.errors import NotCapturable

from .hooks import AttachedHook, StateCaptureHook
from .neuron_axes import find_rules

METHODS = {"before": ("pre",), "after": ("post",), "both": ("pre", "post")}


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return names and modules to choose from; a model without submodules, itself."""
    below = [(name, module) for name, module in model.named_modules() if name]
    return below or [(type(model).__name__, model)]


def class_names(layer: Any) -> tuple[str, ...]:
    """Return the names of a layer's class; torch creates some at run time (ParametrizedLinear)."""
    kind = type(layer)
    made_from = [
        base.__name__
        for base in kind.__bases__
        if kind.__name__ in (f"Parametrized{base.__name__}", f"FSDP{base.__name__}")
    ]
    return (kind.__name__, *made_from)


def point_name(layer: str, place: str) -> str:
    """Return the name of the capture point at a place of a layer."""
    return f"{layer}_{place}_states"


def check_attachable(model: nn.Module) -> None:
    """Raise NotCapturable for a compiled model: it would never call a hook that is added now."""
    compiled = getattr(model, "_compiled_call_impl", None) is not None
    if compiled or type(model).__name__ == "OptimizedModule":
        raise NotCapturable(
            "model is compiled, and hooks may never fire there: attach to the plain model first, "
            "then compile it"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise NotCapturable(
            "model is TorchScript, which runs no hooks: attach to the model that it was made from"
        )


def attach(
    model: nn.Module,
    chosen: Sequence[tuple[str, nn.Module]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str] = (),
) -> tuple[nn.Module, list[StateCaptureHook]]:
    """Like attach_in_place(), but also return the model."""
    return model, attach_in_place(model, chosen, method, options, existing)


def attach_in_place(
    model: nn.Module,
    chosen: Sequence[tuple[str, nn.Module]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str] = (),
) -> list[StateCaptureHook]:
    """Add a hook for each chosen layer and place, all or none, except for ``existing`` names."""
    rules = find_rules(model)
    hooks: list[StateCaptureHook] = []
    try:
        for name, module in chosen:
            for place in METHODS[method]:
                if point_name(name, place) in existing:
                    continue
                hook = StateCaptureHook(point_name(name, place), options=options)
                hooks.append(hook)
                if isinstance(module, torch.jit.ScriptModule):
                    raise NotCapturable(f"{name} is TorchScript, which runs no hooks: exclude= it")
                hook._rule = rules[id(module)][place == "post"]
                hook._handle = _register(hook, module, place)
    except BaseException:
        detach(hooks)
        for hook in hooks:
            hook.intake.sink.release_name()
        raise
    return hooks


def _register(hook: StateCaptureHook, module: nn.Module, place: str) -> Any:
    if place == "pre":
        before = AttachedHook(hook.before_with_kwargs)
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(AttachedHook(hook))


def detach(points: Iterable[CapturePoint]) -> None:
    """Remove these hooks from their modules. What they have captured stays."""
    for hook in points:
        if isinstance(hook, StateCaptureHook) and hook._handle is not None:
            hook._handle.remove()
            hook._handle = None


def remove(model: nn.Module, points: Sequence[CapturePoint]) -> nn.Module:
    """Remove these hooks and return the model itself."""
    detach(points)
    return model


def call_after_forward(model: nn.Module, function: Callable[[], object]) -> Any:
    """Call ``function()`` after each forward pass, also a failed one. Returns a handle."""

    def after(module: Any, args: Any, output: Any) -> None:
        function()

    return model.register_forward_hook(AttachedHook(after), always_call=True)
