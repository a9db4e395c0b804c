"""Where the benchmarks run, and how time is taken there."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Place:
    """A device of torch's; ``tiny`` for tests of the benchmarks themselves, also on a CPU."""

    device: str = "cuda"
    tiny: bool = False

    def size(self, full: int, small: int) -> int:
        return small if self.tiny else full

    def seconds(self, call: Callable[[], object], rounds: int = 15) -> list[float]:
        """Time of one call on the device: least, median and most of several."""
        rounds = 1 if self.tiny else rounds
        for _ in range(min(3, rounds)):
            call()
        times = [self._once(call) for _ in range(rounds)]
        return [min(times), statistics.median(times), max(times)]

    def _once(self, call: Callable[[], object]) -> float:
        if self.device == "cpu":
            begun = time.perf_counter()
            call()
            return time.perf_counter() - begun
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    def in_turn(self, ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
        """As seconds(), of several calls round by round, so that none has a warmer device."""
        times: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(1 if self.tiny else rounds + 2):  # the first two warm up
            for way, call in ways.items():
                elapsed = self._once(call)
                if number >= 2 or self.tiny:
                    times[way].append(elapsed)
        return {way: [min(t), statistics.median(t), max(t)] for way, t in times.items()}

    def free(self) -> None:
        """Give memory back, to torch's pool and CuPy's."""
        if self.device == "cuda":
            import cupy

            torch.cuda.empty_cache()
            cupy.get_default_memory_pool().free_all_blocks()


Case = dict[str, Any]
