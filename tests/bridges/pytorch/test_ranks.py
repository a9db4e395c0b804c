"""Ranks of torch.distributed: states of all ranks, merged by gloo, against one process."""

import pytest
import torch
import torch.distributed as dist

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch import ranks
from tests.bridges.pytorch import parallel_programs, rank_programs
from tests.support.gloo_ranks import programs_of, run_programs
from tests.support.samples import thinned

SIZES = thinned([2, 4], [2])
MODULES = f"{rank_programs.__name__},{parallel_programs.__name__}"


def outcomes(size):
    return run_programs(MODULES, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("program", [name for name, _ in programs_of(MODULES)])
def test_ranks_agree_with_one_process(program, size):
    """The programs check that themselves."""
    assert len(outcomes(size)[program]) == size


@pytest.mark.parametrize("size", SIZES)
def test_only_ranks_of_the_group_may_merge(size):
    *others, of_group = outcomes(size)["program_a_part_of_the_ranks"]
    assert of_group is None
    for kind, message in others:
        assert kind == "ValueError"
        assert "does not belong to process_group" in message


@pytest.mark.parametrize("size", SIZES)
def test_disagreement_is_an_error_on_every_rank(size):
    message = "the number of neurons: some ranks have 8, others 9"
    assert outcomes(size)["program_disagreeing"] == [("RanksDisagree", message)] * size


@pytest.mark.parametrize("size", SIZES)
def test_a_process_group_is_needed(size):
    for kind, message in outcomes(size)["program_another_object"]:
        assert kind == "TypeError"
        assert "process_group must be a group of torch.distributed" in message
        assert "got str" in message


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
