"""Counters that spill after few rows, and what they count."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._states import external_counter, sorted_runs
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu.cpu_fallback import running_counts

ROWS = 9000

ROWS = 9000
BUDGET = 1 << 16


@pytest.fixture
def small_runs(monkeypatch):
    """Tables, blocks and ranges so small that few rows take all ways."""
    monkeypatch.setattr(running_counts, "_MOST_IN_TABLES", 300)
    monkeypatch.setattr(sorted_runs, "_BLOCK_BYTES", 1 << 8)
    monkeypatch.setattr(sorted_runs, "_LEAST_BLOCK_ROWS", 4)
    monkeypatch.setattr(external_counter, "_MOST_RUNS", 6)
    yield
    ts.set_memory_limit(None)


def inputs(width, rows=ROWS):
    rng = np.random.default_rng(width)
    new = rng.integers(0, 256, (rows, width), dtype=np.uint8)
    rare = new.copy()
    rare[:, width // 3 :] = 0  # all highest words are equal
    skewed = new[(rng.random(rows) ** 3 * rows).astype(int)]
    drifting = new[np.arange(rows) // 3 + rng.integers(0, 50, rows)]
    cyclic = new[np.arange(rows) % (rows // 3)]
    return {
        "new": new,
        "rare": rare,
        "skewed": skewed,
        "in order": new[np.lexsort(new.T)],
        "drifting": drifting,
        "cyclic": cyclic,
        "changing": np.concatenate([np.zeros_like(new), new, skewed, rare]),
    }


def counter_of(rows, budget=BUDGET, parts=11):
    counter = ExternalCounter(rows.shape[1], budget)
    for batch in np.array_split(rows, parts):
        counter.add(batch)
    return counter


def stored(rows, budget=BUDGET):
    counter = counter_of(rows, budget)
    assert counter.has_spilled
    return ts.StoredCounts(counter.runs(), 8 * rows.shape[1])
