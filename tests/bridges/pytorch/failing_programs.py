"""Programs of ranks of which one runs out of memory between exchanges, which test_ranks.py runs."""

from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist

import tensorstate_gpu as ts
from tensorstate_gpu._capturing import rank_merging, spread
from tensorstate_gpu._capturing.window import CountsWindow
from tensorstate_gpu._states import rank_exchange, tables_by_group
from tensorstate_gpu.bridges.pytorch import ranks
from tensorstate_gpu.information import dependence_trees
from tests.bridges.pytorch.parallel_programs import (
    captured,
    check_labelled,
    mesh_of,
    network,
    numbers,
    plain_layouts,
    tensor_parallel,
)
from tests.support.gloo_ranks import error_of

# What allocates memory where slices are joined, and then where all states are merged.
JOINING = [(spread, "_padded"), (spread, "concatenate_neurons"), (torch.Tensor, "new_empty")]
MERGING = [
    *((rank_exchange, name) for name in ("owners", "_split", "sum_over_states")),
    *[(rank_merging, "merge_all"), (tables_by_group, "cpu")],
]
TREES = [
    *[(tables_by_group, "cofiring"), (dependence_trees, "tree_of")],
    (ranks, "_on_host"),
]
OF_MONITORS = [(ts.StateMonitor, "_read_stages"), (CountsWindow, "counts")]


def no_room(*args, **keywords):
    raise MemoryError("no room")


def errors_of(call, faults, rank):
    """The error of a call on this rank, for each function that has no memory on rank 1 alone."""
    found = []
    for owner, name in faults:
        with patch.object(owner, name, no_room) if rank == 1 else nullcontext():
            found.append(error_of(call))
    return found


def program_no_room_for_slices(rank, size):
    """After each error the ranks are in step: they merge all states, once there is memory."""
    mesh = mesh_of(size)
    batches = [numbers(20, 6, seed=seed) for seed in range(size // 2)]
    run = captured(tensor_parallel(mesh), batches[mesh["dp"].get_local_rank()], labelled=True)
    layouts = plain_layouts(mesh)
    errors = errors_of(lambda: run.sync(layouts=layouts), JOINING + MERGING, rank)
    whole = captured(network(), *batches, labelled=True)
    check_labelled(run.sync(layouts=layouts), whole, rank)
    return errors


def program_no_room_for_trees(rank, size):
    """Estimates of states that are seldom seen twice, whose neurons depend on each other."""
    rows = np.random.default_rng(rank).random((32, 20, 30)) < 0.1
    chains = np.logical_xor.accumulate(rows, axis=2).astype(np.float32)
    parts = [ts.count_states(ts.compress_states(each), neurons=30) for each in chains]
    groups = ts.GroupedCounts(parts, [20] * 32)
    errors = errors_of(groups.merge_ranks, TREES, rank)
    assert groups.merge_ranks().estimate().how[1] == "dependence tree"
    return errors


def program_no_room_for_monitors(rank, size):
    net = network()
    monitor = ts.StateMonitor(net, "Linear", every_n_steps=1)
    net(numbers(20, 6))
    monitor.step()
    errors = errors_of(lambda: monitor.scalars(dist.group.WORLD), OF_MONITORS, rank)
    assert 0 < monitor.scalars(dist.group.WORLD)["train/efficiency"] < 1
    return errors
