"""Programs of several ranks with monitors; tests/bridges/pytorch/test_ranks.py runs them."""

import pytest
import torch.distributed as dist

import tensorstate_gpu as ts
from tests.bridges.pytorch.rank_programs import inputs, model
from tests.support.gloo_ranks import error_of


def program_monitors(rank, size):
    """Measures of all ranks, also where a rank has no inputs, and of phases that one rank has."""
    net = model()
    monitor = ts.StateMonitor(net, "Linear", every_n_steps=1)
    train(net, monitor, rank)
    if rank == 0:
        net.eval()(inputs(rank)[:2])
    merged = monitor.scalars(dist.group.WORLD)
    monitor.remove()
    one = ts.StateMonitor(net.train(), "Linear", every_n_steps=1)  # sees the inputs of all ranks
    for other in range(size):
        train(net, one, other)
    net.eval()(inputs(0)[:2])
    assert merged == pytest.approx(one.scalars(), rel=1e-12)  # sums are in another order


def train(net, monitor, rank):
    for _ in range(3):
        net(inputs(rank))
        monitor.step()


def program_monitors_of_other_layers(rank, size):
    monitor = ts.StateMonitor(model(), "Linear" if rank == 0 else "ReLU")
    return error_of(lambda: monitor.phase_scalars("train", "", dist.group.WORLD))
