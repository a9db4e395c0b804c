from llvmlite import ir

voidptr_t: ir.PointerType

def get_or_insert_function(module: ir.Module, kind: ir.FunctionType, name: str) -> ir.Function: ...
