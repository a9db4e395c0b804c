"""As if pyarrow were not installed, and had not been asked for yet."""

import sys

MODULES = ("_layers.arrow_rows", "_states.parquet", "_states.arrow_library")


def forget_arrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in MODULES:
        monkeypatch.delattr(f"tensorstate_gpu.{name}", raising=False)
        monkeypatch.delitem(sys.modules, f"tensorstate_gpu.{name}", raising=False)
