"""PyTorch: modules with our hooks get classes of their own, which torch.compile distinguishes.

A compiled graph is used for every module that passes its guards. They check the class of a module,
but not that it has no hooks (torch._dynamo.config.skip_nnmodule_hook_guards). A graph that was made
without our hooks would therefore be used for modules that have them, and would capture nothing. So
a module with hooks of ours is given an empty subclass of its class, one per number of hooks. With
each attaching and detaching, torch.compile finds the graphs that fit, and keeps the others.
"""

import copyreg
import functools
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

from tensorstate_gpu.errors import NotCapturable

from .method_calls import watched_methods, watchers_among
from .unchecked_graphs import may_be_in_unchecked_graph

_new_object = copyreg.__newobj__  # type: ignore[attr-defined]
_new_of_class = copyreg._reconstructor  # type: ignore[attr-defined]
_PLAIN = "_tensorstate_gpu_plain"  # the attribute of a marked class


class OwnHook:
    """Base class of our hooks, which copies of a module do not have."""


class MarkingHook(OwnHook):
    """Base class of the hooks that mark their module."""

    _handles: tuple[Any, ...] = ()
    _module: "weakref.ref[nn.Module] | None" = None
    _own_module: "weakref.ref[nn.Module] | None" = None  # also after leaving it

    def _hook_onto(self, module: nn.Module) -> tuple[RemovableHandle, ...]:
        """Register this hook at a module, and return the handles."""
        raise NotImplementedError

    def join(self, module: nn.Module) -> None:
        """Register this hook at a module, and mark it."""
        self._handles = self._hook_onto(module)
        self._module = self._own_module = weakref.ref(module)
        mark(module)
        if may_be_in_unchecked_graph(plain_class(module)):
            _forget_graphs()

    def remove(self) -> None:
        """Remove this hook from its module, if it has one."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()
        if self._module is not None and (module := self._module()) is not None:
            mark(module)
            self._module = None

    def rejoin(self) -> None:
        """Register this hook again at the module that it was removed from, if that still exists."""
        if (module := self.module_of_its_own()) is not None:
            self.join(module)

    def module_of_its_own(self) -> nn.Module | None:
        """Return the module that it is at, or was the last time, if that still exists."""
        return None if self._own_module is None else self._own_module()


def register_first(module: nn.Module, hook: Callable[..., Any]) -> RemovableHandle:
    """Register a pre-hook, with keywords, that runs before those that are there.

    Not with ``prepend=True``, which changes the order of an OrderedDict alone: up to torch 2.11,
    torch.compile looks hooks up in the order of the dict beneath it, and finds others.
    """
    hooks = module._forward_pre_hooks
    earlier = list(hooks)
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    # Moves the earlier ones behind it in one call, in which no Python runs: other threads of the
    # program never see the dict in between.
    deque(map(hooks.__setitem__, earlier, map(hooks.pop, earlier)), maxlen=0)
    return handle


def mark(module: nn.Module) -> None:
    """Give a module the class for the marking hooks that it has now."""
    numbers = [sum(1 for _ in _marking(hooks)) for hooks in _hooks_of(module)]
    is_watched = bool(watchers_among(module._forward_pre_hooks.values()))
    try:
        if is_parametrized(module) or isinstance(module, torch.fx.GraphModule):
            raise TypeError("torch itself changes the class of such a module")
        plain = plain_class(module)
        _set_class(module, _marked_class(plain, *numbers, is_watched) if any(numbers) else plain)
    except Exception:  # __init_subclass__ and metaclasses may raise any
        _forget_graphs()


def plain_class(module: nn.Module) -> Any:
    """Return the class of a module without the mark."""
    kind = type(module)
    return kind.__dict__.get(_PLAIN, kind)


def _hooks_of(module: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    return module._forward_pre_hooks, module._forward_hooks


def _marking(hooks: dict[int, Any]) -> Iterator[MarkingHook]:
    for hook in hooks.values():
        owner = getattr(hook, "__self__", hook)  # of a bound method
        if isinstance(owner, MarkingHook):
            yield owner


def _forget_graphs() -> None:
    """Let torch.compile start anew, which is exact too, but costs the user all compiled graphs."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def _set_class(module: nn.Module, kind: type) -> None:
    object.__setattr__(module, "__class__", kind)  # modules may define a __setattr__
    # torch 2.9 to 2.11 do not check the class again until the dict of the module changes
    # (torch._dynamo.config.use_recursive_dict_tags_for_guards).
    attributes = vars(module)
    attributes[_PLAIN] = None
    del attributes[_PLAIN]


@functools.cache
def _marked_class(plain: Any, before: int, after: int, is_watched: bool) -> Any:
    """Return the subclass for modules with this many hooks before and after ``forward``.

    ``is_watched``: whether some of them are told when methods are called.
    """
    namespace = {
        **(watched_methods(plain) if is_watched else {}),
        "__doc__": plain.__doc__,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__init__": _init_of(plain),
        "__reduce_ex__": functools.partialmethod(_reduce_marked, plain),
        "__prepare_scriptable__": _refuse_scripting,
        _PLAIN: plain,
    }
    return types.new_class(plain.__name__, (plain,), exec_body=lambda body: body.update(namespace))


def _init_of(plain: Any) -> Callable[..., None]:
    """Return what makes a plain module of what ``type(module)(...)`` makes, such as a slice."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # A compiled graph sets no class: its slice is of the marked class, and has no hooks either.
        if not torch.compiler.is_compiling() and plain_class(self) is plain:
            _set_class(self, plain)  # else it is of a subclass of the marked class, as FSDP makes
        plain.__init__(self, *args, **kwargs)

    return __init__


def _refuse_scripting(self: object) -> None:
    """Called by torch.jit.script, which would compile the hooks, and fail with an error of its own.

    Raises NotCapturable.
    """
    raise NotCapturable(
        f"{type(self).__name__} is captured, and torch.jit.script cannot compile its hooks: script "
        "it outside of capture(), or after remove_state_layers()"
    )


def _reduce_marked(self: Any, plain: Any, protocol: Any) -> Any:
    """Copies and pickles are plain modules, without our hooks: a copy is not captured."""
    function, arguments, *rest = plain.__reduce_ex__(self, protocol)
    kind = type(self)
    if function is _new_object and arguments == (kind,) and plain_class(self) is plain:
        # Pickle insists on the class of the object with the function that makes new objects.
        function, arguments = _new_of_class, (plain, object, None)
    elif plain_class(self) is plain:
        function, *arguments = [plain if part is kind else part for part in (function, *arguments)]
    if rest and isinstance(rest[0], dict):
        rest[0] = _without_hooks(rest[0])
    return (function, tuple(arguments), *rest)


def _without_hooks(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a module without those hooks that belong to this package."""
    ours = {
        key
        for name in ("_forward_pre_hooks", "_forward_hooks")
        for key, hook in state.get(name, {}).items()
        if isinstance(getattr(hook, "__self__", hook), OwnHook)
    }
    names = [name for name in state if name.startswith(("_forward_pre_hooks", "_forward_hooks"))]
    kept = {name: type(state[name])() for name in names}
    for name in names:
        kept[name].update({key: hook for key, hook in state[name].items() if key not in ours})
    return {**state, **kept}
