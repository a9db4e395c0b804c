"""PyTorch: attaches capture points to the modules of a model."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn

from tensorstate_gpu._capturing.attachment import release_names
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.sampling import Sampler
from tensorstate_gpu.errors import NotCapturable

from .bypasses import inside_replaced
from .definitions import has_kernel as has_kernel
from .definitions import neurons as neurons
from .definitions import takes_indices
from .forward_passes import ForwardPasses
from .hook_switch import HookSwitch
from .hooks import StateCaptureHook
from .marked_classes import plain_class
from .neuron_axes import find_rules
from .other_devices import check_devices, check_has_numbers
from .pass_counter import PassCounter
from .pass_filter import PassFilter
from .sampled_hooks import SampledHook
from .sampled_stages import SampledStagedHook, StageSwitch
from .staged_hook import StagedHook
from .untraced import untraced

METHODS = {"before": ("pre",), "after": ("post",), "both": ("pre", "post")}


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return names and modules to choose from; a model without submodules, itself.

    Modules inside a wrapper of torch.compile, of activation checkpointing or of FSDP have the names
    that they have without it. A module that is registered in several places is there under each of
    its names.
    """
    model = _unwrapped(model)
    below = [
        (_name_without_wrappers(name) or itself(module)[0], module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name and _WRAPPED.isdisjoint(module._modules.keys())
    ]
    return below or [itself(model)]


def _name_without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPED)


# The names under which wrappers have what they wrap; state_dict() leaves out the last two itself.
_WRAPPED = {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}


def all_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the layers that ``"*"`` stands for.

    Neither those that make the weights of another one, nor those that nothing can call: lists and
    dicts of layers or of parameters.
    """
    return [
        (name, module)
        for name, module in layers(model)
        if _OF_WEIGHTS.isdisjoint(name.split(".")) and _has_forward(module)
    ]


def _has_forward(module: nn.Module) -> bool:
    """Return whether a module's class, or the module itself, says what a call of it does."""
    forward = getattr(module, "forward", None)  # TorchScript may have none
    return getattr(forward, "__func__", None) is not nn.Module.forward


# Modules that weight_norm() and its like, and quantisation in training, put into a layer.
_OF_WEIGHTS = {"parametrizations", "weight_fake_quant"}


def itself(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the model as a layer that can be chosen, with its name: that of its class."""
    model = _unwrapped(model)
    return plain_class(model).__name__, model


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile has wrapped; another module itself."""
    if type(module).__name__ != "OptimizedModule":
        return module
    wrapped: nn.Module = module._orig_mod  # type: ignore[assignment]
    return _unwrapped(wrapped)


def inside(pattern: Any) -> Any:
    """Return the module in wrappers of torch.compile, checkpointing, FSDP; anything else itself."""
    while isinstance(pattern, nn.Module) and (
        names := _WRAPPED.intersection(pattern._modules.keys())
    ):
        pattern = pattern._modules[names.pop()]
    return pattern


def class_names(layer: Any) -> tuple[str, ...]:
    """Return the names of a layer's class; torch creates some at run time (ParametrizedLinear)."""
    kind = plain_class(layer)
    made_from = [
        base.__name__
        for base in kind.__bases__
        if kind.__name__ in (f"Parametrized{base.__name__}", f"FSDP{base.__name__}")
    ]
    return (kind.__name__, *made_from)


def places(layer: nn.Module, method: str) -> tuple[str, ...]:
    """Return the places at a layer for a method: not before an embedding, which has no neurons."""
    return tuple(at for at in METHODS[method] if at != "pre" or not takes_indices(layer))


def point_name(layer: str, place: str) -> str:
    """Return the name of the capture point at a place of a layer."""
    return f"{layer}_{place}_states"


def check_attachable(model: nn.Module) -> None:
    """Raise NotCapturable for a model that would never call a hook, or never with numbers."""
    if isinstance(model, torch.jit.ScriptModule):
        raise NotCapturable(
            "model is TorchScript, which runs no hooks: attach to the model that it was made from"
        )
    check_has_numbers(model)


def attach(
    model: nn.Module,
    chosen: Sequence[tuple[str, nn.Module]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str] = (),
) -> tuple[nn.Module, list[StateCaptureHook]]:
    """Like attach_in_place(), but also return the model."""
    return model, attach_in_place(model, chosen, method, options, existing)


def _new_hook(name: str, options: CaptureOptions) -> StateCaptureHook:
    kind = StateCaptureHook if options.stage_rows is None else StagedHook
    return kind(name, options=options)


@untraced
def attach_in_place(
    model: nn.Module,
    chosen: Sequence[tuple[str, nn.Module]],
    method: str,
    options: CaptureOptions,
    existing: Collection[str] = (),
    new_hook: Callable[[str, CaptureOptions], StateCaptureHook] = _new_hook,
) -> list[StateCaptureHook]:
    """Add a hook for each chosen layer and place, all or none, except for ``existing`` names."""
    if options.mask is True:
        raise NotCapturable(
            "mask=True stands for the masks that Keras makes; name the argument of the model that "
            "is its mask"
        )
    check_devices(model, options.firing)
    rules = find_rules(model)
    bypassed = inside_replaced(model.modules())
    passes = ForwardPasses(options.batch_axis, options.mask)
    root = _unwrapped(model)
    selected = None if options.when is None else PassFilter(options.when, root)
    hooks: list[StateCaptureHook] = []
    counter = PassCounter(options.batch_axis)
    try:
        for name, module, place in _without_points(chosen, method, existing):
            hook = new_hook(point_name(name, place), options.of_layer(name, module))
            hooks.append(hook)
            hook.count_passes(counter)
            _check_hooks_run(name, module, bypassed)
            hook.use_rule(rules[id(module)][place == "post"])
            hook.follow(passes, selected)
            hook.attach(module, before=place == "pre")
            hooks += hook.later_calls_of_store()
        if hooks:
            passes.attach(root, counter)
            counter.attach(root)  # the last that is put first: it runs before the others
    except BaseException:
        detach(hooks)
        release_names(hooks)
        raise
    return hooks


def _without_points(
    chosen: Sequence[tuple[str, nn.Module]], method: str, existing: Collection[str]
) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield each place of the chosen layers, "pre" or "post", that has no point of these names."""
    for name, module in chosen:
        for place in places(module, method):
            if point_name(name, place) not in existing:
                yield name, module, place


@untraced
def attach_switched(
    model: nn.Module,
    chosen: Sequence[tuple[str, nn.Module]],
    method: str,
    options: CaptureOptions,
    sampler: Sampler,
) -> HookSwitch:
    """Like attach_in_place(), for a sampler. The hooks leave the model until it asks for them."""
    root = _unwrapped(model)
    if options.stage_rows is not None:
        staged: list[SampledStagedHook] = []

        def new_staged(name: str, options: CaptureOptions) -> SampledStagedHook:
            staged.append(SampledStagedHook(name, options, sampler))
            return staged[-1]

        attach_in_place(model, chosen, method, options, new_hook=new_staged)
        return StageSwitch(model, root, staged, sampler)
    hooks: list[SampledHook] = []

    def new_hook(name: str, options: CaptureOptions) -> SampledHook:
        hooks.append(SampledHook(name, options, sampler))
        return hooks[-1]

    attach_in_place(model, chosen, method, options, new_hook=new_hook)
    return HookSwitch(model, root, hooks, sampler)


def _check_hooks_run(name: str, module: nn.Module, bypassed: set[nn.Module]) -> None:
    """Raise NotCapturable for a module that never, or not always, calls its hooks."""
    if isinstance(module, torch.jit.ScriptModule):
        raise NotCapturable(f"{name} is TorchScript, which runs no hooks: exclude= it")
    if module in bypassed:
        raise NotCapturable(
            f"{name} is inside a module whose forward was replaced by TorchScript or a CUDA graph "
            "(make_graphed_callables), which run no hooks: attach to the model as it was before"
        )


@untraced
def detach(points: Iterable[CapturePoint]) -> None:
    """Remove these hooks from their modules. What they have captured stays.

    If one fails, as where memory runs out, the others leave nevertheless.
    """
    hooks = [point for point in points if isinstance(point, StateCaptureHook)]
    with ExitStack() as leaving:
        for counter in {hook.pass_log.counter for hook in hooks}:
            leaving.callback(counter.remove)
        for hook in reversed(hooks):
            leaving.callback(hook.detach)


def without(model: nn.Module, points: Sequence[CapturePoint]) -> nn.Module:
    """Return the model itself: its points are hooks."""
    return model


def remove(model: nn.Module, points: Sequence[CapturePoint]) -> nn.Module:
    """Remove these hooks and return the model itself."""
    detach(points)
    return model
