"""Where the benchmarks run, and how time is taken there."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# The device first sleeps for about a millisecond, in which the host queues what is timed.
# Otherwise the time of a short kernel would be the host's.
BUSY_CYCLES = 2_000_000

Times = list[float]  # least, median and most of several


@dataclass(frozen=True, slots=True)
class Place:
    """A device of torch's; ``tiny`` for tests of the benchmarks themselves, also on a CPU."""

    device: str = "cuda"
    tiny: bool = False

    def size(self, full: int, small: int) -> int:
        return small if self.tiny else full

    def seconds(self, call: Callable[[], object], rounds: int = 15) -> Times:
        """Time of one call on the device: least, median and most of several."""
        return self.both(call, rounds)["seconds"]

    def both(self, call: Callable[[], object], rounds: int = 15) -> dict[str, Times]:
        """``seconds`` of the device for one call, and ``host``: until the call returned.

        A call that waits for the device has its waits in both.
        """
        rounds = 1 if self.tiny else rounds
        for _ in range(min(3, rounds)):
            call()
        times = [self._once(call) for _ in range(rounds)]
        return {
            "seconds": spread([device for device, _ in times]),
            "host": spread([host for _, host in times]),
        }

    def _once(self, call: Callable[[], object]) -> tuple[float, float]:
        if self.device == "cpu":
            begun = time.perf_counter()
            call()
            elapsed = time.perf_counter() - begun
            return elapsed, elapsed
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        torch.cuda._sleep(BUSY_CYCLES)
        begin.record()
        begun = time.perf_counter()
        call()
        host = time.perf_counter() - begun
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000, host

    def in_turn(self, ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
        """Time until calls are done, round by round, so that none has a warmer device."""
        times: dict[str, Times] = {way: [] for way in ways}
        for number in range(1 if self.tiny else rounds + 2):  # the first two warm up
            for way, call in ways.items():
                elapsed = self._until_done(call)
                if number >= 2 or self.tiny:
                    times[way].append(elapsed)
        return {way: spread(t) for way, t in times.items()}

    def _until_done(self, call: Callable[[], object]) -> float:
        self._wait()
        begun = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give memory back, to torch's pool and CuPy's."""
        if self.device == "cuda":
            import cupy

            torch.cuda.empty_cache()
            cupy.get_default_memory_pool().free_all_blocks()


def spread(times: Times) -> Times:
    return [min(times), statistics.median(times), max(times)]


Case = dict[str, Any]
