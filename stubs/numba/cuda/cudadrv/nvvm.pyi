from collections.abc import Callable

compile_ir: Callable[..., bytes]
