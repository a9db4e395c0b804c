"""Slices of neurons, copies, and rows of their own, on meshes of ranks that are threads."""

import itertools
import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing import run as run_module
from tensorstate_gpu._capturing import spread as spread_module
from tensorstate_gpu._capturing.spread import Spread, Step
from tests.support.points import new_point
from tests.support.samples import thinned
from tests.support.thread_ranks import on_ranks, parts_of

NEURONS, OWN, COPIES = "neurons", "own", "copies"
MIXES = [
    (shape, kinds)
    for shape in [(2,), (3,), (2, 2), (2, 3)]
    for kinds in itertools.product([NEURONS, OWN, COPIES], repeat=len(shape))
]


@pytest.fixture(autouse=True)
def ranks_are_given(monkeypatch):
    monkeypatch.setattr(run_module, "ranks_of", lambda ranks: ranks)
    monkeypatch.setattr(spread_module, "_BLOCK", 8)  # rows that are joined at a time


def part_of(states, shape, kinds, place):
    """The part of states (rows, neurons) that a rank of a mesh has, as torch cuts tensors."""
    for size, kind, index in zip(shape, kinds, place, strict=True):
        if kind != COPIES:
            axis = 1 if kind == NEURONS else 0
            states = np.array_split(states, size, axis)[index]
    return states


@pytest.mark.parametrize("neurons", thinned([13, 40], [13]))
@pytest.mark.parametrize(("shape", "kinds"), MIXES, ids=str)
def test_all_mixes_give_the_states_of_one_process(shape, kinds, neurons):
    states = np.random.default_rng(1).integers(0, 2, (61, neurons))
    states[20:50] = states[:30]  # some states occur twice
    whole = ts.count_states(ts.compress_states(states), neurons=neurons)

    def sync(ranks):
        place = np.unravel_index(ranks.rank, shape)
        own = part_of(states, shape, kinds, place)
        point = new_point(neurons=own.shape[1])
        for some in np.array_split(own, 3):
            point.append(ts.compress_states(some), len(some))
        steps = [
            Step(kinds[dim], parts_of(ranks, shape, dim))
            for dim in reversed(range(len(shape)))
            if kinds[dim] != OWN
        ]
        point.spread = Spread(tuple(steps), neurons)
        if NEURONS in kinds:
            with pytest.raises(ts.errors.SliceOfNeurons, match=f"of {neurons} neurons; run.sync"):
                point.entropy()
        return ts.Run([point]).sync(ranks)["layer"].histogram().gather()

    found = on_ranks(math.prod(shape), sync)
    assert found == [whole] + [None] * (len(found) - 1)
