"""Us, our rivals and the machine's limit, timed in turn: round by round, in one process.

Machines are noisy and slow down for seconds at a time. So all contenders of a case run once per
round, and what counts is the ratio of two times of the same round.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

ROUNDS = 7
# One timing lasts at least this long, by repetition, so that the clock's own noise is small.
SHORTEST = 0.005
# A slow rival is not run in every round: this long in all, at least once.
LONGEST = 2.0
# torch's threads spin for milliseconds after each operation, on processors that whoever comes next
# would use, and processors that were idle are slow to wake: each contender runs so long untimed
# before it is timed.
WARM_UP = 0.015

Call = Callable[[], object]


def rotated(names: Iterable[str], number: int) -> list[str]:
    """Return names, of which another one is the first in each round.

    Who comes first, or behind another, meets other memory, caches and threads.
    """
    each = [*names]
    first = number % len(each)
    return each[first:] + each[:first]


class Contender:
    """A call that is timed once per round; ``seconds`` holds None for rounds it sat out."""

    def __init__(self, call: Call, rounds: int) -> None:
        self._call = call
        first = self._time(1)  # compiles, starts threads, fills caches: also of slow rivals
        again = min(first, self._time(1))
        self._warm_up = round(WARM_UP / again)
        self._repeat = max(1, round(SHORTEST / again))
        self._rounds = max(1, min(rounds, int(LONGEST / (again * self._repeat))))
        self.seconds: list[float | None] = []

    def _time(self, repeat: int) -> float:
        start = time.perf_counter()
        for _ in range(repeat):
            self._call()
        return (time.perf_counter() - start) / repeat

    def run(self) -> None:
        """One timing; seconds per call are noted."""
        if len(self.seconds) >= self._rounds:
            self.seconds.append(None)
            return
        for _ in range(self._warm_up):
            self._call()
        self.seconds.append(self._time(self._repeat))

    def run_repeatedly(self) -> None:
        for _ in range(self._repeat):
            self._call()


def compare(
    benchmark: Any,
    ours: Call,
    *,
    rivals: Mapping[str, Call],
    limits: Mapping[str, Call],
    amount: float,
    unit: str,
) -> None:
    """Time a case under pytest-benchmark, and note every contender's seconds per call.

    ``amount`` of ``unit`` is what one call handles. Without --benchmark-enable every contender runs
    once: a smoke test.
    """
    calls = {"ours": ours} | {f"rival: {n}": c for n, c in rivals.items()}
    calls |= {f"limit: {n}": c for n, c in limits.items()}
    time_in_turn(benchmark, calls, amount=amount, unit=unit)


def time_in_turn(
    benchmark: Any, calls: Mapping[str, Call], *, amount: float, unit: str, rounds: int = ROUNDS
) -> None:
    """As compare, for any set of calls; pytest-benchmark's own figure is that of the first."""
    if not benchmark.enabled:
        for call in calls.values():
            call()
        benchmark.pedantic(next(iter(calls.values())), rounds=1)
        return
    contenders = {name: Contender(call, rounds) for name, call in calls.items()}

    def one_round() -> None:
        for contender in contenders.values():
            contender.run()

    # What pytest-benchmark times itself is one more run of the first at the end of each round.
    first = next(iter(contenders.values()))
    benchmark.pedantic(first.run_repeatedly, setup=one_round, rounds=rounds)
    benchmark.extra_info.update(
        amount=amount,
        unit=unit,
        seconds={name: contender.seconds for name, contender in contenders.items()},
    )
