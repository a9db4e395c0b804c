"""Ranks that are processes with gloo: they run the programs of modules, one after the other.

To start a process that imports torch takes seconds, so one group runs all programs: the functions
of its modules whose names begin with ``program_``. The first that fails ends the group.
"""

import functools
import importlib
import pickle
import subprocess
import sys
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 240


def run_programs(modules, size):
    """What each program returned on each rank: {name: [of rank 0, ...]}. Fails with its errors."""
    found, errors = _run_once(modules, size)
    assert not errors, errors
    return found


@functools.cache
def _run_once(modules, size):
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, modules, str(size), str(rank), folder],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(size)
        ]
        try:
            said = [rank.communicate(timeout=SECONDS)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        if any(rank.returncode for rank in ranks):
            return {}, "\n\n".join(said)
        found = [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(size)]
    return {name: [each[name] for each in found] for name in found[0]}, ""


def programs_of(modules):
    """The programs of modules, whose names are separated by commas."""
    for module in modules.split(","):
        for name, program in [*vars(importlib.import_module(module)).items()]:
            if name.startswith("program_"):
                yield name, program


def main(modules, size, rank, folder):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=int(rank),
        world_size=int(size),
        timeout=timedelta(seconds=60),
    )
    found = {}
    for name, program in programs_of(modules):
        try:
            found[name] = program(int(rank), int(size))
        except BaseException:
            sys.exit(f"{name} failed on rank {rank}\n{traceback.format_exc()}")
    Path(folder, rank).write_bytes(pickle.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def error_of(function):
    """The kind and the message of the error that a call raises; None if it raises none."""
    try:
        function()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
