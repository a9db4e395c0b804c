"""Sorting words with NumPy, on processors on which its sort runs fast vector instructions.

With AVX-512 it sorts buckets of words in about two thirds of the time that radix.py takes, and in
one third where neurons seldom fire (on a Zen 5). With AVX2 it takes as long as radix.py, and
without either six times as long. The names of instructions do not tell: on a Zen 4, which has
AVX-512, `np.unique` is not the best rival (docs/performance.md, "Counting").
"""

import functools
import time
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_WORDS = 1 << 13  # 0.3 ms, once a process
_TIMES_AS_FAST = 10  # as its merge sort, which has no vector instructions: AVX2 6, AVX-512 15


@functools.cache
def is_fast() -> bool:
    """Tell, by trying it, whether NumPy's sort has fast vector instructions for words."""
    words = np.random.default_rng(0).integers(0, 1 << 64, _WORDS, np.uint64)
    return _time(words, "stable") > _TIMES_AS_FAST * _time(words, "quicksort")


def _time(words: NDArray[np.uint64], kind: Literal["quicksort", "stable"]) -> float:
    """Return the seconds that sorting words (number,) takes: the least of three."""
    times = []
    for _ in range(3):
        unsorted = words.copy()
        begun = time.perf_counter()
        unsorted.sort(kind=kind)
        times.append(time.perf_counter() - begun)
    return min(times)
