"""Programs of ranks that share a model (tensor parallel, FSDP2), which test_ranks.py runs."""

import copy
import itertools

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

import tensorstate_gpu as ts
from tests.support.gloo_ranks import error_of

LAYERS = "*"


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 4))


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def captured(net, *batches, labelled=False, **options):
    """The run of a model. The numbers of an input decide its label, and its group as its unit."""
    with ts.capture(net, LAYERS, **options) as run, torch.no_grad():
        for batch in batches:
            if labelled:
                run.labels((batch[:, 0] > 0).int(), units=(batch[:, 1] * 1e6).int())
            net(batch)
    return run


def mesh_of(size):
    return init_device_mesh("cpu", (size // 2, 2), mesh_dim_names=("dp", "tp"))


def tensor_parallel(mesh, **options):
    plan = {"0": ColwiseParallel(**options), "2": RowwiseParallel()}
    return parallelize_module(network(), mesh["tp"], plan)


def plain_layouts(mesh):
    """How the plain tensors are spread that layers pass by default."""
    return {"1": (mesh["tp"], [Shard(-1)]), "2": (mesh["tp"], [Replicate()])}


def check_gathered(merged, whole, rank):
    assert list(merged) == list(whole)
    for name, layer in merged.items():
        exact = whole[name].histogram()
        assert (layer.neurons, layer.state_count) == (exact.neurons, exact.total), name
        assert layer.histogram().gather() == (None if rank else exact), name


def check_labelled(merged, whole, rank):
    """The same by label, by group and by both, and estimates, which need no gathering."""
    check_gathered(merged, whole, rank)
    for name, layer in merged.items():
        exact = whole[name]
        grouped = layer.grouped().gather()
        assert grouped == (None if rank else exact.grouped()), name
        for kind in ("counts_by", "grouped_by"):
            due = getattr(exact, kind)()
            found = {label: each.gather() for label, each in getattr(layer, kind)().items()}
            assert found == (dict.fromkeys(due) if rank else due), (name, kind)
        ours, due = layer.estimate("efficiency"), exact.estimate("efficiency")
        assert (ours.sample, ours.how, ours.rows) == (due.sample, due.how, due.rows), name
        assert abs(ours.value - due.value) < 1e-12, name


def program_tensor_parallel(rank, size):
    """Ranks along dp have batches of their own, those along tp slices of the neurons."""
    mesh = mesh_of(size)
    batches = [numbers(20, 6, seed=seed) for seed in range(size // 2)]
    whole = captured(network(), *batches, labelled=True)
    own = batches[mesh["dp"].get_local_rank()]
    for options in ({}, {"use_local_output": False}):
        run = captured(tensor_parallel(mesh, **options), own[:9], own[9:], labelled=True)
        check_labelled(run.sync(layouts=plain_layouts(mesh)), whole, rank)


def long_program_compiled_tensor_parallel(rank, size):
    mesh = mesh_of(size)
    batches = [numbers(20, 6, seed=seed) for seed in range(size // 2)]
    whole = captured(network(), *batches, labelled=True)
    own = batches[mesh["dp"].get_local_rank()]
    for options in ({}, {"use_local_output": False}):
        net = torch.compile(tensor_parallel(mesh, **options), backend="aot_eager")
        run = captured(net, own, labelled=True)
        check_labelled(run.sync(layouts=plain_layouts(mesh)), whole, rank)


def program_slices(rank, size):
    """What cannot be measured or joined is refused."""
    mesh = mesh_of(size)
    run = captured(tensor_parallel(mesh), numbers(20, 6))
    return (
        error_of(run["0"].entropy),
        error_of(run.report),
        error_of(run.sync),
        error_of(lambda: captured(tensor_parallel(mesh), numbers(20, 6), keep="counts")),
        error_of(lambda: run.sync(layouts={"1": ("mesh", [Shard(-1)])})),
        error_of(lambda: run.sync(layouts={"1": (mesh["tp"], [])})),
    )


def program_partial_sums(rank, size):
    """A hook that was attached first sees what RowwiseParallel has not reduced yet."""
    mesh, net = mesh_of(size), network()
    with ts.capture(net, LAYERS):
        parallelize_module(net, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        return error_of(lambda: net(numbers(20, 6)))


def program_sequence_parallel(rank, size):
    """Of a sequence, each rank normalises its own positions."""
    mesh = mesh_of(size)
    torch.manual_seed(0)
    net = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 24))
    batches = [numbers(5, 8, 6, seed=seed) for seed in range(size // 2)]
    whole = captured(net, *batches)
    plan = {"0": SequenceParallel(), "1": ColwiseParallel(input_layouts=Shard(1))}
    parallelize_module(net, mesh["tp"], plan)
    own = batches[mesh["dp"].get_local_rank()].chunk(2, 1)[mesh["tp"].get_local_rank()]
    check_gathered(captured(net, own).sync(), whole, rank)


def labelled(net, *batches):
    """The run of a model with batches of five inputs, which have labels."""
    with ts.capture(net, LAYERS) as run, torch.no_grad():
        for batch in batches:
            run.labels([0, 1, 1, 0, 2])
            net(batch)
    return run


def program_activations_that_are_exchanged(rank, size):
    """Behind an exchange of ranks, neurons and inputs are known; also where positions are cut."""
    mesh = mesh_of(size)
    batches = [numbers(5, 8, 6, seed=seed) for seed in range(size // 2)]
    torch.manual_seed(0)
    layers = nn.LayerNorm(6), nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 4), nn.ReLU()
    net = nn.Sequential(*layers)
    whole = labelled(net, *batches)
    own = batches[mesh["dp"].get_local_rank()]
    of_positions = own.chunk(2, 1)[mesh["tp"].get_local_rank()]
    gathered = {"1": ColwiseParallel(output_layouts=Replicate())}
    cut = {
        "0": SequenceParallel(),
        "1": ColwiseParallel(input_layouts=Shard(1)),
        "3": RowwiseParallel(output_layouts=Shard(1)),
    }
    for plan, given, placements in (
        (gathered, own, dict.fromkeys("01234", Replicate())),
        (cut, of_positions, {"2": Shard(-1), "3": Shard(1), "4": Shard(1)}),
    ):
        parallel = parallelize_module(copy.deepcopy(net), mesh["tp"], plan)
        run = labelled(parallel, given)
        assert {point.axis_origin for point in run.values()} == {"layer", "flow"}
        layouts = {name: (mesh["tp"], [each]) for name, each in placements.items()}
        merged = run.sync(layouts=layouts)
        check_gathered(merged, whole, rank)
        for name, layer in merged.items():
            found = {label: each.gather() for label, each in layer.counts_by().items()}
            due = whole[name].counts_by()
            assert found == (dict.fromkeys(due) if rank else due), name


class OfOtherRanks(nn.Module):
    """Compares its inputs with those of other ranks, as contrastive losses do."""

    def __init__(self):
        super().__init__()
        self.layer, self.all, self.part = nn.Linear(6, 9), nn.ReLU(), nn.ReLU()
        self.beside = nn.ReLU()

    def forward(self, x):
        ranks, collectives = dist.get_world_size(), torch.ops._c10d_functional
        group = dist.group.WORLD.group_name
        x = collectives.all_gather_into_tensor(self.layer(x), ranks, group)
        x = collectives.wait_tensor(x)
        parts = x.chunk(ranks)
        return self.all(x), self.part(parts[-1]), self.beside(torch.cat(parts, -1))


def program_inputs_of_other_ranks(rank, size):
    """They are not taken for those of this rank."""
    run = labelled(OfOtherRanks(), numbers(5, 6, seed=rank))
    assert {point.axis_origin for point in run.values()} == {"layer", "flow"}
    for name in ("all", "part", "beside"):
        assert error_of(run[name].counts_by)[0] == "InputsUnknown"


def long_program_mixes_of_placements(rank, size):
    """All placements on both axes of a mesh; 13 and 3 do not divide by the number of ranks."""
    mesh = mesh_of(size)
    net = nn.Sequential(nn.ReLU())
    for shape in [(11, 13), (5, 3, 26)]:
        tensor = numbers(*shape)
        whole = captured(net, tensor)
        kinds = [Replicate(), *(Shard(axis) for axis in range(len(shape)))]
        for placements in itertools.product(kinds, repeat=2):
            part = distribute_tensor(tensor, mesh, placements)
            check_gathered(captured(net, part, neuron_axis=len(shape) - 1).sync(), whole, rank)


def program_fully_sharded(rank, size):
    """FSDP2 puts weights together before a layer computes: each rank has rows of its own."""
    batches = [numbers(10 + each, 6, seed=each) for each in range(size)]
    whole = captured(network(), *batches)
    for attach_first in (False, True):
        net = network()
        if attach_first:
            ts.build_efficiency_model(net, LAYERS)
        for layer in (net[0], net[2], net):
            fully_shard(layer)
        run = net if attach_first else ts.build_efficiency_model(net, LAYERS)
        net(batches[rank]).square().mean().backward()
        check_gathered(ts.Run(run.efficiency_layers).sync(), whole, rank)


def long_program_fully_sharded_tensor_parallel(rank, size):
    """FSDP2 along dp puts together what each rank along tp has of a weight: slices of neurons."""
    mesh = mesh_of(size)
    batches = [numbers(20, 6, seed=seed) for seed in range(size // 2)]
    whole = captured(network(), *batches)
    own = batches[mesh["dp"].get_local_rank()]
    for attach_first in (False, True):
        net = tensor_parallel(mesh)
        if attach_first:
            ts.build_efficiency_model(net, LAYERS)
        for layer in (net[0], net[2], net):
            fully_shard(layer, mesh=mesh["dp"])
        run = net if attach_first else ts.build_efficiency_model(net, LAYERS)
        net(own).square().mean().backward()
        merged = ts.Run(run.efficiency_layers).sync(layouts=plain_layouts(mesh))
        check_gathered(merged, whole, rank)


def long_program_pipeline(rank, size):
    """A stage runs on made-up numbers first, to learn the shape of what it passes on."""
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    torch.manual_seed(rank)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    stage = PipelineStage(net, rank, size, torch.device("cpu"))
    schedule = ScheduleGPipe(
        stage, n_microbatches=8, loss_fn=lambda out, y: (out - y).square().mean()
    )
    given = [numbers(64, 6)] if rank == 0 else []
    target = numbers(64, 6, seed=1) if rank == size - 1 else None
    with ts.capture(net, "*") as run:
        schedule.step(*given, target=target)
    assert run[0].state_count == 64
    assert run[0].passes == (8, 8)
