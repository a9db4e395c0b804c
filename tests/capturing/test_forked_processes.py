"""Forked processes: what they capture would be lost, so it is refused there."""

import gc
import multiprocessing
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import tensorstate_gpu as ts

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX"),
    # Where JAX or another library with threads has been imported.
    pytest.mark.filterwarnings("ignore:os.fork"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


class Embedded(Dataset):
    """A data set that runs a model on each sample."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.model(torch.full((1, 4), float(index))).detach()


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_workers_of_a_data_loader_do_not_capture(keep, monkeypatch):
    # So many seconds torch waits for each worker of an iterator that is given up.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    model = ts.build_efficiency_model(torch.nn.Linear(4, 2), "*", keep=keep)
    assert len([*DataLoader(Embedded(model))]) == 8
    loader = DataLoader(Embedded(model), num_workers=2, multiprocessing_context="fork")
    with pytest.raises(ts.errors.OtherProcess, match=r"Linear_post_states: process \d+ captures"):
        next(iter(loader))
    gc.collect()  # the iterator, while torch waits for so short a time
    assert model.efficiency_layers[0].state_count == 8


def test_a_forked_process_may_start_anew():
    point = ts.CapturePoint("layer")
    rows = np.arange(6, dtype=np.uint8)[:, None]

    def add(inherited: ts.CapturePoint) -> None:
        inherited.declare(8)
        inherited.append(rows, 6)

    add(point)

    def in_the_child(results: "multiprocessing.Queue[object]") -> None:
        try:
            add(point)
        except RuntimeError as error:
            results.put(str(error))
        results.put(point.state_count)  # what the parent had can be read
        point.reset_states()
        add(point)
        results.put(point.state_count)

    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    child = fork.Process(target=in_the_child, args=(results,))
    child.start()
    assert "reset_states() there to start anew" in results.get(timeout=600)
    assert [results.get(timeout=600), results.get(timeout=600)] == [6, 6]
    child.join(600)
    assert point.state_count == 6
