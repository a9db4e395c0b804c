"""Ranks of torch.distributed: states of all ranks, merged by gloo, against one process."""

import sys
import types

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import Partial, Replicate, Shard

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch import ranks, tensors
from tensorstate_gpu.bridges.pytorch.spread_tensors import part_in_graph
from tests.support.gloo_ranks import run_programs
from tests.support.samples import thinned

MODULES = (
    *("tests.bridges.pytorch.rank_programs", "tests.bridges.pytorch.parallel_programs"),
    *("tests.bridges.pytorch.page_programs", "tests.training.rank_programs"),
    "tests.bridges.pytorch.failing_programs",
)


@pytest.mark.parametrize("size", thinned([2, 4], [2]))
def test_ranks_agree_with_one_process(size):
    """The programs check that themselves. One test, since a group takes seconds to start."""
    said = run_programs(MODULES, size, long=size > 2)
    check_groups(*said["program_a_part_of_the_ranks"], *said["program_another_object"])
    check_disagreement(said["program_disagreeing"])
    for subject in ("slices", "trees", "monitors"):
        check_no_room(said[f"program_no_room_for_{subject}"])
    for kind, message in said["program_monitors_of_other_layers"]:
        assert kind == "RanksDisagree"
        assert message.startswith("the layers of the monitors: some ranks have ['0_post_states'")
    for outcome in said["program_slices"]:
        check_slices(*outcome)
    for kind, message in said["program_partial_sums"]:
        assert kind == "NotCapturable"
        assert message.startswith("2_post_states: its tensor is the partial sum of a rank")


def check_groups(*outcomes):
    """Ranks without a group, the rank that has one, and what is no group."""
    size = len(outcomes) // 2
    *others, of_group = outcomes[:size]
    assert of_group is None
    for kind, message in others:
        assert kind == "ValueError"
        assert "does not belong to process_group" in message
    for kind, message in outcomes[size:]:
        assert kind == "TypeError"
        assert "process_group must be a group of torch.distributed" in message
        assert "got str" in message


def check_no_room(outcomes):
    """An error of rank 1 is one of all ranks."""
    for rank, errors in enumerate(outcomes):
        other = "RanksDisagree", "rank 1 cannot take part: MemoryError: no room"
        assert errors == [("MemoryError", "no room") if rank == 1 else other] * len(errors)


def check_disagreement(outcomes):
    message = "the number of neurons: some ranks have 8, others 9"
    assert outcomes == [("RanksDisagree", message)] * len(outcomes)


def check_slices(entropy, report, sync, counts, no_mesh, no_placements):
    """Slices of neurons are not taken for layers."""
    neurons = "0_post_states: this rank has 12 of 24 neurons"
    assert entropy == ("SliceOfNeurons", f"{neurons}; run.sync() joins those of all ranks")
    assert report == entropy
    assert sync[0] == "NotCapturable"
    assert sync[1].startswith("1_post_states: a plain tensor in a tensor parallel model")
    assert counts[0] == "NotCapturable"
    assert counts[1].startswith(neurons)
    assert 'keep="states", without a store' in counts[1]
    assert no_mesh[0] == "TypeError"
    assert "layouts= must have a DeviceMesh" in no_mesh[1]
    assert no_placements[0] == "ValueError"
    assert "a placement for each axis of the mesh" in no_placements[1]


def test_without_a_process_group():
    counts = ts.StateCounts.empty(3)
    with pytest.raises(RuntimeError, match="init_process_group"):
        counts.merge_ranks()
    with pytest.raises(RuntimeError, match="init_process_group"):
        ts.Run().sync()


class OneDevice:
    """The module of a device, such as torch.cuda, whose current device is number 3."""

    @staticmethod
    def current_device():
        return 3


@pytest.mark.parametrize(
    ("backends", "device"),
    [
        ("cpu:gloo,cuda:gloo", "cpu"),
        ("cuda:nccl", "cuda:3"),
        ("cpu:gloo,cuda:nccl", "cpu"),
        ("xpu:xccl", "xpu:3"),
    ],
)
def test_tensors_are_where_the_backend_needs_them(backends, device, monkeypatch):
    monkeypatch.setattr(dist, "get_backend_config", lambda group: backends)
    monkeypatch.setattr(torch, "get_device_module", lambda kind: OneDevice)
    assert ranks._device_of(None) == torch.device(device)


class DTensor:
    """As torch.compile shows one: by the name of its class."""

    def __init__(self, *placements):
        self.placements = placements

    def to_local(self):
        return "the part of this rank"


def test_compiled_graphs_get_the_part_of_a_rank():
    plain = torch.ones(2)
    assert part_in_graph(plain) is plain
    assert part_in_graph(DTensor(Shard(0), Replicate())) == "the part of this rank"
    with pytest.raises(ts.errors.NotCapturable, match="partial sums"):
        part_in_graph(DTensor(Shard(0), Partial()))


@pytest.mark.parametrize("name", ["_forward_metadata_inference", "_shape_inference"])
def test_a_pipeline_that_asks_for_shapes_is_not_captured(name, monkeypatch):
    """It runs a stage on zeros, in functions that are called so in some version of torch."""
    monkeypatch.setitem(sys.modules, tensors._STAGES, types.ModuleType(tensors._STAGES))
    stages = {"__name__": tensors._STAGES}
    exec(f"def {name}(run): return run()", stages)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with ts.capture(net) as run:
        stages[name](lambda: net(torch.zeros(8, 3)))
        net(torch.ones(5, 3))
    assert run[0].state_count == 5
    assert run[0].passes == (1, 1)
