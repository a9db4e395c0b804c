"""Programs of several ranks with monitors; tests/bridges/pytorch/test_ranks.py runs them."""

import io
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import tensorstate_gpu as ts
from tests.bridges.pytorch.rank_programs import inputs, model
from tests.support.gloo_ranks import error_of
from tests.support.pages import programs_of


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


def program_checkpoints(rank, size):
    """Saved by all ranks, and gone on with by one rank less, which have all counts together."""
    import torch.distributed.checkpoint as dcp

    net = model()
    monitor = ts.StateMonitor(net, "Linear", every_n_steps=1)
    train(net, monitor, rank)
    merged = monitor.scalars(dist.group.WORLD)
    file = io.BytesIO()
    torch.save(monitor.state_dict(), file)
    folder = [tempfile.mkdtemp() if rank == 0 else ""]
    dist.broadcast_object_list(folder)
    dcp.save({f"monitor_{rank}": file.getvalue()}, checkpoint_id=folder[0])
    readers = dist.new_group(range(size - 1))
    if rank < size - 1:
        own = {f"monitor_{each}": b"" for each in range(rank, size, size - 1)}
        dcp.load(own, checkpoint_id=folder[0], process_group=readers)
        files = [io.BytesIO(each) for each in own.values()]
        resumed = ts.StateMonitor(net, "Linear", every_n_steps=1)
        resumed.load_state_dict([torch.load(each, weights_only=True) for each in files])
        assert resumed.global_step == monitor.global_step
        assert resumed.scalars(readers) == pytest.approx(merged, rel=1e-12)
    dist.barrier()
    if rank == 0:
        shutil.rmtree(folder[0])


def program_monitors_of_other_layers(rank, size):
    monitor = ts.StateMonitor(model(), "Linear" if rank == 0 else "ReLU")
    return error_of(lambda: monitor.phase_scalars("train", "", dist.group.WORLD))


def long_program_accelerate(rank, size):
    """The program of docs/training.md: its scalars are of the states of all processes."""
    [program] = [each for each in programs_of("docs/training.md") if "Accelerator()" in each]
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    launched |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": 1}
    names = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in launched.items():
            patch.setenv(name, str(value))
        exec(program, names)
        assert Path(f"monitor-{rank}.pt").exists()
    assert names["accelerator"].num_processes == size
    of_ranks = [None] * size
    dist.all_gather_object(of_ranks, names["monitor"].counts("0"))
    steps = len(range(0, 512 // 16 // size, 4))
    assert [counts.total for counts in of_ranks] == [16 * steps] * size
    assert names["scalars"]["train/efficiency/0"] == pytest.approx(sum(of_ranks).efficiency())
