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
from collections.abc import Iterator
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

_new_object = copyreg.__newobj__  # type: ignore[attr-defined]
_PLAIN = "_tensorstate_gpu_plain"  # the attribute of a marked class


class MarkingHook:
    """Base class of the hooks that mark their module."""

    _handles: tuple[Any, ...] = ()
    _module: "weakref.ref[nn.Module] | None" = None

    def bind(self, module: nn.Module, *handles: Any) -> None:
        """Mark a module, at which this hook was registered under these handles."""
        self._handles = handles
        self.belongs_to(module)
        mark(module)

    def belongs_to(self, module: nn.Module) -> None:
        """Remember the module of this hook. A copy of a module calls it for copies of hooks."""
        self._module = weakref.ref(module)

    def remove(self) -> None:
        """Remove this hook from its module, if it has one."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()
        if self._module is not None and (module := self._module()) is not None:
            mark(module)
            self._module = None


def mark(module: nn.Module) -> None:
    """Give a module the class for the marking hooks that it has now."""
    numbers = [sum(1 for _ in _marking(hooks)) for hooks in _hooks_of(module)]
    try:
        if is_parametrized(module) or isinstance(module, torch.fx.GraphModule):
            raise TypeError("torch itself changes the class of such a module")
        plain = plain_class(module)
        _set_class(module, _marked_class(plain, *numbers) if any(numbers) else plain)
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


@functools.cache
def _marked_class(plain: Any, before: int, after: int) -> Any:
    """Return the subclass for modules with this many hooks before and after ``forward``."""
    namespace = {
        "__doc__": plain.__doc__,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__init__": functools.partialmethod(_init_plain, plain),
        "__reduce_ex__": functools.partialmethod(_reduce_marked, plain),
        "__setstate__": functools.partialmethod(_set_state, plain),
        _PLAIN: plain,
        "_tensorstate_gpu_key": (plain, before, after),
    }
    return types.new_class(plain.__name__, (plain,), exec_body=lambda body: body.update(namespace))


def _init_plain(self: Any, plain: Any, *args: Any, **kwargs: Any) -> None:
    """Become a plain module: what ``type(module)(...)`` makes, such as a slice, has no hooks."""
    if plain_class(self) is plain:  # else it is of a subclass of the marked class, as FSDP makes
        _set_class(self, plain)
    plain.__init__(self, *args, **kwargs)


def _reduce_marked(self: Any, plain: Any, protocol: Any) -> Any:
    """Copies and pickles contain copies of the hooks, so they are marked likewise.

    A pickle names the plain class, because the marked one cannot be imported.
    """
    function, arguments, *rest = plain.__reduce_ex__(self, protocol)
    kind = type(self)
    if plain_class(self) is not plain:
        return (function, arguments, *rest)
    if function is _new_object and arguments == (kind,):
        return (_new_marked, kind._tensorstate_gpu_key, *rest)
    function, *arguments = [plain if part is kind else part for part in (function, *arguments)]
    return (function, tuple(arguments), *rest)


def _new_marked(plain: Any, before: int, after: int) -> Any:
    kind = _marked_class(plain, before, after)
    return kind.__new__(kind)


def _set_state(self: Any, plain: Any, state: Any) -> None:
    plain.__setstate__(self, state)
    for hooks in _hooks_of(self):
        for hook in _marking(hooks):
            hook.belongs_to(self)
