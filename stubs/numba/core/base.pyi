from llvmlite import ir

class BaseContext:
    def get_dummy_value(self) -> ir.Value: ...
