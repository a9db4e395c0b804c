"""Keras 3 on JAX: what JAX has traced of code in layers and keeps, as for a jax.jit of a layer.

It may be without captures, as where Keras inferred shapes or before capture points were attached,
or with those of another capture. JAX looks traces up by the value of a context of ours, too: what
is traced for a capture is kept beside what was traced before, which stays as it was.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import CodeType, ModuleType
from typing import Any

import keras


class OwnTraces:
    """Has JAX trace for one capture what the layers of a model run.

    Without a graph, each operation is a function that JAX keeps, and to compile all of them takes
    seconds. So that is only done where the code of layers uses what keeps traces.

    What jax.checkpoint keeps of a function has the weights that it used in it: in a graph, tracers
    of that graph, for which another one raises an error. So each graph has traces of its own then.
    """

    def __init__(self, model: Any) -> None:
        self._is_jax = keras.backend.backend() == "jax"
        self._also_eagerly = self._is_jax and code_keeps_traces(model)
        self._with_tracers = self._is_jax and code_keeps_traces(model, of=is_checkpoint)
        self._key = object()

    def of_call(self, *, in_graph: bool) -> AbstractContextManager[Any]:
        """Return the context for a call of the model that is captured."""
        if not ((self._is_jax and in_graph) or self._also_eagerly):
            return nullcontext()
        captures = _context_of_captures()
        key = object() if in_graph and self._with_tracers else self._key
        made: AbstractContextManager[Any] = captures((*captures.value, key))
        return made


@functools.cache
def _context_of_captures() -> Any:
    """Return the context whose value has a key for each capture that a call is for."""
    import jax

    return jax.make_user_context(())  # type: ignore[no-untyped-call]


def keeps_any(names: set[str]) -> bool:
    """Return whether code with these names uses a function of JAX that keeps what it has traced."""
    return any("jit" in name for name in names) or not names.isdisjoint(_LOOPS | _CHECKPOINTS)


def is_checkpoint(names: set[str]) -> bool:
    """Return whether code with these names uses jax.checkpoint, also as keras.remat."""
    return not names.isdisjoint(_CHECKPOINTS)


def code_keeps_traces(model: Any, of: Callable[[set[str]], bool] = keeps_any) -> bool:
    """Return whether code of layers that are not of Keras uses functions that keep traces.

    As far as names tell, by which ``of`` decides: what those call by other ways is not found.
    """
    seen: set[object] = set()
    layers = [each for each in model._flatten_layers() if not _is_of_a_library(type(each))]
    kinds = {kind for each in layers for kind in type(each).__mro__ if not _is_of_a_library(kind)}
    owners: list[Any] = [*layers, *kinds]
    values = [value for owner in owners for value in vars(owner).values()]
    return any(_uses(of, value, seen) for value in values)


def _uses(of: Callable[[set[str]], bool], value: Any, seen: set[object]) -> bool:
    """Return whether a value is a function of jax.jit, or one whose code uses what keeps traces."""
    import jax

    if of is keeps_any and isinstance(value, type(jax.jit(len))):
        return True
    function: Any = getattr(value, "__wrapped__", value)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or code in seen or _is_of_a_library(function):
        return False
    seen.add(code)
    names = _names_in(code)
    return of(names) or any(_uses(of, each, seen) for each in _named(function.__globals__, names))


# They keep what they have traced of a function that is there for longer, such as a layer.
_LOOPS = {"associative_scan", "cond", "fori_loop", "scan", "switch", "while_loop"}
_CHECKPOINTS = {"checkpoint", "remat"}


def _names_in(code: CodeType) -> set[str]:
    """Return the global names, and those of attributes, in a code and in the functions in it."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def _named(there: dict[str, Any], names: set[str]) -> Iterator[object]:
    """Yield the global values of these names, and what modules among them have by these names."""
    for name in names & there.keys():
        yield there[name]
        if isinstance(there[name], ModuleType) and not _is_of_a_library(there[name]):
            yield from (vars(there[name])[each] for each in names & vars(there[name]).keys())


def _is_of_a_library(value: Any) -> bool:
    module = value.__name__ if isinstance(value, ModuleType) else value.__module__
    return str(module).partition(".")[0] in _LIBRARIES


_LIBRARIES = {"builtins", "jax", "keras", "numpy", "tensorstate_gpu"}
