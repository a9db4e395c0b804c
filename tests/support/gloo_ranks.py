"""Ranks that are processes with gloo: they run the programs of modules, one after the other.

To start a process that imports torch takes seconds, so one group runs all programs: the functions
whose names begin with ``program_`` or, for `make test-all`, with ``long_program_``. The first that
fails ends the group.
"""

import importlib
import pickle
import re
import subprocess
import sys
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 700  # a hang, whatever else runs; pytest gives a test 900
WAITING = 600  # for another rank, which a busy machine may hold up, or stop for a while


def programs_of(module, *, long):
    """The names of a module's programs, which is not imported; ``long``: also of the long ones."""
    text = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    return re.findall(rf"^def ({'(?:long_)?' if long else ''}program_\w+)", text, re.MULTILINE)


def run_programs(modules, size, *, long=False):
    """What each program returned on each rank: {name: [of rank 0, ...]}. Fails with its errors."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    __name__,
                    str(size),
                    str(rank),
                    folder,
                    str(int(long)),
                    *modules,
                ],
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
        assert not any(rank.returncode for rank in ranks), "\n\n".join(said)
        found = [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(size)]
    return {name: [each[name] for each in found] for name in found[0]}


def main(size, rank, folder, long, *modules):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=int(rank),
        world_size=int(size),
        timeout=timedelta(seconds=WAITING),
    )
    found = {}
    for module in modules:
        for name in programs_of(module, long=bool(int(long))):
            try:
                found[name] = getattr(importlib.import_module(module), name)(int(rank), int(size))
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
