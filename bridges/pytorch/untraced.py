"""PyTorch: what torch.compile runs as it is, and never traces.

A compiled function may capture a model itself, pause a monitor, or read measures, as a training
step does that logs them. torch.compile would trace how hooks are put at modules and how states are
counted, which fails, or turn the arrays of NumPy into tensors, which gives other numbers.
"""

import functools
import pkgutil
import sys
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_LIBRARY = __name__.partition(".")[0]

# All that is no bridge, what attaches, and what hooks call where they are not traced. Hooks call
# some of two packages where they are traced.
_UNTRACED = (
    *("_arguments", "_html", "_layers", "_process", "_states", "bits", "cpu_fallback", "cuda"),
    *("demo", "information", "neurons", "reporting", "store", "testing", "training"),
    "bridges.pytorch.models",
    *(f"bridges.pytorch.{name}" for name in ("axis_point", "batch_plan", "followed_passes")),
    *(f"bridges.pytorch.{name}" for name in ("forward_passes", "found_axis", "rows_by_input")),
    "bridges.pytorch.tensor_point",
)
_PARTLY_TRACED = ("_arrays", "_capturing")
_TRACED = {"_capturing.first_array", "_arrays.frameworks"}
_told: set[str] = set()


def tell_dynamo() -> None:
    """Name the modules of this library that torch.compile does not trace, once it is imported.

    Versions of torch that cannot be told trace them.
    """
    rules = sys.modules.get("torch._dynamo.trace_rules")
    if rules is None or _told:
        return
    _told.update(_untraced_modules())
    for module in _told if hasattr(rules, "add") else ():
        rules.add(f"{_LIBRARY}.{module}")


def _untraced_modules() -> Iterator[str]:
    yield from _UNTRACED
    for package in _PARTLY_TRACED:
        folders = [f"{folder}/{package}" for folder in sys.modules[_LIBRARY].__path__]
        names = {f"{package}.{module.name}" for module in pkgutil.iter_modules(folders)}
        yield from sorted(names - _TRACED)


def untraced(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let compiled code end its graph before a call of a function, and begin another after it."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if "torch._dynamo" not in sys.modules:  # nothing is compiled, and its import takes seconds
            return function(*args, **kwargs)
        tell_dynamo()
        disabled: Callable[Arguments, Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return disabled(*args, **kwargs)

    return call
