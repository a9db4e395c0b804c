"""PyTorch: ModuleLog, in how many passes of a model a module ran."""

import weakref

try:
    import torch  # noqa: F401 (the error that says what to install)
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn

from tensorstate_gpu._capturing.pass_log import MOST_NOTED, PassLog

from .pass_counter import PassCounter


class ModuleLog(PassLog):
    """In how many passes of a model a module ran, and what is known to have run it otherwise."""

    def __init__(self, counter: PassCounter) -> None:
        self.counter = counter
        self._module: weakref.ref[nn.Module] | None = None
        super().__init__(counter.times)

    def of_later_call(self) -> "ModuleLog":
        """Return the log of another call of the layer, in which it has not run yet."""
        log = ModuleLog(self.counter)
        log._begun_before, log._module = self._begun_before, self._module
        return log

    def watch(self, module: nn.Module) -> None:
        """Look from now on whether something runs a module without its hooks."""
        self._module = weakref.ref(module)

    def end(self) -> None:
        """Keep what is known of the layer now, which is about to have no hook."""
        self.bypass()
        self._module = None

    def restart(self) -> None:
        super().restart()
        self._bypass: str | None = None
        self._calls: dict[int, int] = {}  # how many, by the time of the pass

    def call_number(self, time: int) -> int:
        """Count the calls of the layer in the pass of a time: 1, 2, ..."""
        with self._lock:
            if len(self._calls) > MOST_NOTED:
                running = self.counter.times.unfinished()
                self._calls = {each: self._calls.get(each, 0) for each in running}
            self._calls[time] = self._calls.get(time, 0) + 1
            return self._calls[time]

    def bypass(self) -> str | None:
        module = None if self._module is None else self._module()
        bypasses, passes = self.counter.bypasses, self.passes()
        if module is not None and bypasses is not None and passes and passes[0] < passes[1]:
            self._bypass = self._bypass or bypasses.cause(module)
        return self._bypass
