"""PyTorch: tells hooks of a module when its public methods are called, which run no hooks."""

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn

# Where a call of a method is: offsets in the bytecode of the user's functions, innermost first.
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MethodCall:
    """A call of a public method of a module.

    ``names``: of its positional arguments. ``code``: of the function, without decorators.
    ``frame``: of a call that lasts as long.
    """

    module: nn.Module
    name: str
    names: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    code: CodeType
    frame: FrameType

    def place(self) -> Place | None:
        """Return where in the method, and in what it has called, this thread is.

        None if it is not known, as in a method that is compiled.
        """
        frame: FrameType | None = sys._getframe(1)
        place: list[int] = []
        is_known = False
        while frame is not None and frame is not self.frame:
            is_known = is_known or frame.f_code is self.code
            if str(frame.f_globals.get("__name__")).partition(".")[0] not in _OF_HOOKS:
                place.append(frame.f_lasti)
            frame = frame.f_back
        return tuple(place) if is_known else None


_OF_HOOKS = {"torch", __name__.partition(".")[0]}  # packages that are between the method and a hook


class MethodWatcher:
    """Base class of hooks that are told of calls of the public methods of their module."""

    def begin_method(self, call: MethodCall) -> None:
        """Called before the method."""
        raise NotImplementedError

    def end_method(self, call: MethodCall, *, has_failed: bool) -> None:
        """Called after the method, whether or not it was the outermost."""
        raise NotImplementedError


def watchers_among(hooks: Iterable[object]) -> tuple[MethodWatcher, ...]:
    """Return the watchers of which some hooks are methods."""
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    return tuple(owner for owner in owners if isinstance(owner, MethodWatcher))


def watched_methods(kind: type) -> dict[str, Callable[..., Any]]:
    """Return the public methods of a class of modules, by name, so that they tell watchers.

    Not ``forward``, which runs hooks, nor what torch defines or calls: ``train``, ``state_dict``.
    Not generators and coroutines either: their calls are over before they run.
    """
    found: dict[str, Callable[..., Any]] = {}
    for name in dir(kind):
        function = inspect.getattr_static(kind, name, None)
        if (
            name.startswith("_")
            or hasattr(nn.Module, name)
            or not isinstance(function, FunctionType)
        ):
            continue
        if not _is_watchable(function):
            continue
        found[name] = _watched(kind, name, function)
    return found


@functools.cache
def _is_watchable(function: FunctionType) -> bool:
    if str(function.__module__).startswith("torch."):
        return False
    plain = inspect.unwrap(function)
    lasts = (
        inspect.isgeneratorfunction,
        inspect.iscoroutinefunction,
        inspect.isasyncgenfunction,
    )
    return isinstance(plain, FunctionType) and not any(is_kind(plain) for is_kind in lasts)


def _watched(kind: type, name: str, original: FunctionType) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        function = getattr(kind, name)  # the program may have replaced it
        if not isinstance(function, FunctionType):  # such as a mock, which is not bound
            return function(*args[1:], **kwargs)
        watchers = () if torch.compiler.is_compiling() or _traces() else _watchers_of(args)
        if not watchers or not _is_watchable(function):
            return function(*args, **kwargs)
        # No variable: with the frame it would keep the arguments until garbage is collected.
        with _Told(watchers, _call_of(function, name, args, kwargs, sys._getframe())):
            return function(*args, **kwargs)

    return method


def _call_of(
    function: FunctionType,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    frame: FrameType,
) -> MethodCall:
    code = inspect.unwrap(function).__code__
    return MethodCall(args[0], name, _names_of_arguments(function), args[1:], kwargs, code, frame)


@functools.cache
def _names_of_arguments(function: FunctionType) -> tuple[str, ...]:
    """Return the names of a method's positional arguments, without ``self``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(each.name for each in parameters if each.kind in kinds)[1:]


def _traces() -> bool:
    """Return whether torch.jit traces: such a pass does not count, and sizes are tensors there."""
    return torch._C._get_tracing_state() is not None


def _watchers_of(args: tuple[Any, ...]) -> tuple[MethodWatcher, ...]:
    """Return those of the module that comes first; of none where a class has a plain function."""
    hooks = getattr(args[0], "_forward_pre_hooks", {}) if args else {}
    return watchers_among([*hooks.values()])  # other threads may change them


class _Told:
    """Tells watchers where a call of a method begins and ends."""

    def __init__(self, watchers: tuple[MethodWatcher, ...], call: MethodCall) -> None:
        self._watchers, self._call = watchers, call

    def __enter__(self) -> None:
        for watcher in self._watchers:
            watcher.begin_method(self._call)

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None
    ) -> None:
        for watcher in self._watchers:
            watcher.end_method(self._call, has_failed=kind is not None)
