"""Counts the stores of a folder on a cluster of two processes, of which one dies where it is told.

``python cluster_program.py part|range|published FOLDER``
"""

import os
import signal
import sys
from pathlib import Path

from distributed import Client, LocalCluster

import tensorstate_gpu as ts
from tensorstate_gpu.bridges import dask_arrays
from tensorstate_gpu.store import kept_runs


def die_once(when, marker):
    """Let the first worker die that has half written a part or a range, or has written a part."""
    finished, write_share = kept_runs._finished, dask_arrays.write_share

    def die(is_here):
        if is_here and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(column):
        die(when == ("part" if column._files.path.parent.name == "parts" else "range"))
        return finished(column)

    def write(*arguments):
        write_share(*arguments)
        die(when == "published")

    kept_runs._finished, dask_arrays.write_share = finish, write


if __name__ == "__main__":
    when, folder = sys.argv[1], Path(sys.argv[2])
    paths, to, parts = sorted(folder.glob("*.zarr")), folder / "counts", {"part_bytes": 100_000}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(die_once, when, folder / "died")
        counts = ts.count_stores(paths, client=client, to=to, **parts)
        assert ts.count_stores(paths, client=client, **parts) == counts.load()
