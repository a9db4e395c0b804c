"""The programs of docs/distributed.md, on ranks with gloo that test_ranks.py starts."""

import contextlib
import io
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import tensorstate_gpu as ts
from tests.support.pages import programs_of


def network(*names):
    torch.manual_seed(0)
    layers = {"up": nn.Linear(8, 16), "act": nn.ReLU(), "down": nn.Linear(16, 4)}
    return nn.Sequential(OrderedDict(zip(names, layers.values(), strict=True)))


def program_the_page_on_several_processes(rank, size):
    """In the folder of all ranks; what is printed is of rank 0."""
    merged, parallel, stored, read = programs_of("docs/distributed.md")
    data = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))
    said = io.StringIO()
    with torch.no_grad(), contextlib.redirect_stdout(said), contextlib.chdir(folder_of_ranks()):
        names = {"model": network("0", "relu", "2"), "loader": data[rank::size].split(50)}
        exec(merged.replace("dist.init_process_group()\n", ""), names)
        assert names["everywhere"]["relu"].histogram().total == 300
        names = {"model": network("up", "act", "down"), "batch": data, "ts": ts}
        exec(parallel.replace('"cuda", (2, 4)', f'"cpu", (1, {size})'), names)
        assert names["everywhere"]["down"].neurons == 4
        names = {"model": network("0", "relu", "2"), "data": data, "dist": dist, "ts": ts}
        exec(stored, names)
        assert len(names["mine"]) == names["run"].instance_count
        dist.barrier()
        exec(read, names)
        assert names["every"]["relu"].instance_count == 300
        dist.barrier()
    return said.getvalue()


def folder_of_ranks():
    """A new folder, the same on all ranks."""
    path = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(path)
    return Path(path[0])
