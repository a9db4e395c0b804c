from collections.abc import Callable, Sequence
from typing import Any, Concatenate

from llvmlite import ir

from .core.base import BaseContext
from .core.typing import Signature

_Code = Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value]

# What an intrinsic takes and returns inside kernels is declared where it is assigned.
def intrinsic(
    declare: Callable[Concatenate[object, ...], tuple[Signature, _Code]], /
) -> Callable[..., Any]: ...
