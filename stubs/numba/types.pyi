"""The types of Numba's compiler that intrinsics are declared with."""

from .core.typing import Signature

class Type:
    def __call__(self, *arguments: Type) -> Signature: ...

class NoneType(Type): ...

class BaseTuple(Type):
    types: tuple[Type, ...]

boolean: Type
int64: Type
none: Type
uint64: Type
void: Type
voidptr: Type
