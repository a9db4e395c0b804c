"""Inside training jobs: a monitor for loops of your own, and callbacks for three frameworks.

Each callback is imported when it is first used, with its framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tensorstate_gpu._arrays.frameworks import CALLBACKS, names_without_framework
from tensorstate_gpu.training.monitor import StateMonitor

if TYPE_CHECKING:  # so that editors know their options
    from tensorstate_gpu.bridges.huggingface_callback import EfficiencyCallback
    from tensorstate_gpu.bridges.keras3.callback import StateEfficiency
    from tensorstate_gpu.bridges.lightning_callback import EfficiencyMonitor

__all__ = ["EfficiencyCallback", "EfficiencyMonitor", "StateEfficiency", "StateMonitor"]
# help() and `from tensorstate_gpu.training import *` read each name that is listed.
for _name in names_without_framework(CALLBACKS):
    __all__.remove(_name)


def __getattr__(name: str) -> Any:
    if name not in CALLBACKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"tensorstate_gpu.{CALLBACKS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
