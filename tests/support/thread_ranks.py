"""Ranks that are threads of this process: fast enough for many cases by chance."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tensorstate_gpu._arrays.ranks_protocol import FormerRanks
from tensorstate_gpu._capturing import run
from tensorstate_gpu._states import grouped_counts, state_counts


@pytest.fixture(autouse=True)
def ranks_are_given(monkeypatch):
    """process_group= of sync() and merge_ranks() is the ranks themselves."""
    for module in (run, state_counts, grouped_counts):
        monkeypatch.setattr(module, "ranks_of", lambda ranks: ranks)


class ThreadRanks:
    """One of several threads, which exchange through a list; see the protocol Ranks."""

    def __init__(self, rank, board, barrier):
        self.rank, self.size, self.places = rank, len(board), range(len(board))
        self._board, self._barrier = board, barrier

    def of_all(self, value):
        self._board[self.rank] = value
        self._barrier.wait()
        values = list(self._board)
        self._barrier.wait()  # before anyone writes the next value
        return values

    def gathered(self, value, dst):
        values = self.of_all(value)
        return values if self.rank == dst else None

    def summed(self, array):
        assert array.dtype == np.int64
        return np.sum(self.of_all(array), axis=0)

    def exchanged(self, array, sizes):
        assert array.dtype in (np.uint8, np.int64)
        assert sum(sizes) == len(array)
        sent = np.split(array, np.cumsum(sizes)[:-1])
        return [parts[self.rank] for parts in self.of_all(sent)]

    def __reduce__(self):
        return FormerRanks, (self.rank, self.size, self.places)


def on_ranks(size, program, kind=ThreadRanks):
    """What program(ranks) returns on each of so many ranks, or the exception that it raises.

    A rank that waits for one that has ended fails after ten minutes, as a job would hang.
    """
    board, barrier = [None] * size, threading.Barrier(size, timeout=600)

    def run_rank(rank):
        try:
            return program(kind(rank, board, barrier))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run_rank, range(size)))


def parts_of(ranks, shape, dim):
    """The ranks along one axis of a mesh of this shape, through a list that they share.

    Collective: all ranks call it, in order.
    """
    mesh = np.arange(ranks.size).reshape(shape)
    lines = np.moveaxis(mesh, dim, -1).reshape(-1, shape[dim]).tolist()
    line = next(line for line in lines if ranks.rank in line)
    new = [None] * len(line), threading.Barrier(len(line), timeout=600)
    board, barrier = ranks.of_all(new)[line[0]]  # that of the first of them
    part = ThreadRanks(line.index(ranks.rank), board, barrier)
    part.places = line
    return part
