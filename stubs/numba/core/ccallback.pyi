"""Functions that C can call."""

from collections.abc import Callable, Mapping
from typing import Any

from numba import types

class CFunc:
    address: int
    cache_hits: int
    def __init__(
        self,
        function: Callable[..., Any],
        signature: tuple[tuple[types.Type, ...], types.Type],
        locals: Mapping[str, types.Type],
        options: Mapping[str, object],
    ) -> None: ...
    def enable_caching(self) -> None: ...
    def compile(self) -> None: ...
