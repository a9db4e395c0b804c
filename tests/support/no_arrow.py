"""As if pyarrow were not installed, and had not been asked for yet."""

import sys

STATES = ("arrow_columns", "arrow_counts", "arrow_library", "parquet")
MODULES = ("_layers.arrow_rows", *(f"_states.{name}" for name in STATES))


def forget_arrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in MODULES:
        monkeypatch.delattr(f"tensorstate_gpu.{name}", raising=False)
        monkeypatch.delitem(sys.modules, f"tensorstate_gpu.{name}", raising=False)
