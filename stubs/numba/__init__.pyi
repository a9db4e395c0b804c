"""Numba, as far as this package uses it: compiling a function keeps its types."""

from collections.abc import Callable
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from . import types as types
from .core.typing import Signature

_P = ParamSpec("_P")
_R = TypeVar("_R")

boolean: types.Type
float64: types.Type

class _Stats(Protocol):
    cache_path: str | None
    cache_hits: dict[Signature, int]
    cache_misses: dict[Signature, int]

class Dispatcher(Generic[_P, _R]):
    nopython_signatures: list[Signature]
    @property
    def stats(self) -> _Stats: ...
    def enable_caching(self) -> None: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def compile(self, signature: tuple[types.Type, ...]) -> object: ...

class _Jit(Protocol):
    def __call__(self, function: Callable[_P, _R], /) -> Dispatcher[_P, _R]: ...

@overload
def njit(function: Callable[_P, _R], /) -> Dispatcher[_P, _R]: ...
@overload
def njit(
    *,
    nogil: bool = False,
    cache: bool = False,
    inline: Literal["never", "always"] = "never",
    error_model: Literal["python", "numpy"] = "python",
) -> _Jit: ...
def carray(pointer: object, shape: tuple[Any, ...], dtype: type[Any]) -> Any: ...

class _Config:
    DISABLE_JIT: int
    CACHE_DIR: str

config: _Config
