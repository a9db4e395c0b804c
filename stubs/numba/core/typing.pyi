from ..types import Type

class Signature:
    args: tuple[Type, ...]
    return_type: Type
