"""Programs of ranks with gloo, which test_ranks.py runs: against one process with all inputs."""

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import tensorstate_gpu as ts
from tests.support.gloo_ranks import error_of


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))


def inputs(rank):
    """Those of a rank: an uneven number, none for the last."""
    random = torch.Generator().manual_seed(rank)
    return torch.randn(
        0 if rank == dist.get_world_size() - 1 else 30 + 7 * rank, 6, generator=random
    )


def captured(net, batches, labels=False, **options):
    """The run of a model with some batches."""
    with ts.capture(net, ["Linear", "ReLU"], **options) as run, torch.no_grad():
        for batch in batches:
            if labels and len(batch):
                run.labels((batch[:, 0] > 0).numpy().astype(int))
            if len(batch):
                net(batch)
    return run


def of_all_ranks(**options):
    """The run of one process with the inputs of all ranks."""
    return captured(model(), [inputs(rank) for rank in range(dist.get_world_size())], **options)


def counts_by_chance(seed, neurons, rows):
    random = np.random.default_rng(seed)
    states = random.random((rows, neurons)) < random.choice([0.02, 0.3, 0.5])
    return ts.count_states(ts.compress_states(states.astype(np.float32)), neurons=neurons)


def program_histograms_by_chance(rank, size):
    random = np.random.default_rng(7)  # the same on all ranks
    for seed in range(0, 240, 30):
        neurons = int(random.choice([1, 8, 9, 64, 65, 200]))
        rows = random.choice([0, 1, 20, 2000], size)
        parts = [counts_by_chance(seed + each, neurons, rows[each]) for each in range(size)]
        whole = sum(parts)
        merged = parts[rank].merge_ranks()
        assert (len(merged), merged.total) == (len(whole), whole.total)
        if len(whole):
            assert abs(merged.entropy() - whole.entropy()) < 1e-12
        dst = seed % size
        assert merged.gather(dst) == (whole if rank == dst else None)


def program_runs(rank, size):
    for options in ({"keep": "states"}, {"keep": "counts", "groups": 32}, {"keep": "counts"}):
        merged = captured(model(), [inputs(rank)], labels=True, **options).sync()
        whole = of_all_ranks(labels=True, **options)
        assert list(merged) == list(whole)
        for name, layer in merged.items():
            assert abs(layer.entropy() - whole[name].entropy()) < 1e-12
            row, exact = merged.report()[name], whole.report()[name]
            assert (row.states, row.passes, row.inputs, row.axis) == (
                *(exact.states, exact.passes, exact.inputs, exact.axis),
            )
            exact = whole[name].counts_by()
            for label, counts in layer.counts_by().items():
                gathered = counts.gather()
                assert gathered == (None if rank else exact[label])


def program_estimates(rank, size):
    """Of groups of states that are seldom seen twice, and of others, against all in one place."""
    for neurons, how in ((30, "dependence tree"), (3, "interval")):
        rows = np.random.default_rng(rank).random((32, 20, neurons)) < 0.1
        chains = np.logical_xor.accumulate(rows, axis=2).astype(np.float32)
        parts = [ts.count_states(ts.compress_states(each), neurons=neurons) for each in chains]
        merged = ts.GroupedCounts(parts, [20] * 32).merge_ranks()
        found, whole = merged.estimate(), merged.gather()
        assert found.how[1] == how
        if rank == 0:
            exact = whole.estimate()
            for name in ("value", "lower", "upper", "standard_error"):
                assert abs(getattr(found, name) - getattr(exact, name)) < 1e-9


def program_a_part_of_the_ranks(rank, size):
    group = dist.new_group([size - 1])
    part = counts_by_chance(rank, 8, 20)
    if rank < size - 1:
        return error_of(lambda: part.merge_ranks(group))
    assert part.merge_ranks(group).gather(0) == part
    return None


def program_disagreeing(rank, size):
    return error_of(counts_by_chance(0, 8 + rank, 20).merge_ranks)


def program_another_object(rank, size):
    return error_of(lambda: counts_by_chance(0, 8, 20).merge_ranks("world"))


def long_program_data_parallel(rank, size):
    """DDP: the gradients are averaged, and the states of all ranks are those of one process."""
    net = nn.parallel.DistributedDataParallel(model())
    own = torch.randn(16, 6, generator=torch.Generator().manual_seed(rank))
    with ts.capture(net, "ReLU") as run:
        net(own).square().mean().backward()
    merged = run.sync()
    all_inputs = [
        torch.randn(16, 6, generator=torch.Generator().manual_seed(each)) for each in range(size)
    ]
    whole = captured(model(), all_inputs)["1"]
    assert abs(merged[0].efficiency() - whole.efficiency()) < 1e-12
    return [run["module.1"].efficiency(), merged[0].efficiency()]
