"""What holds for every run of the suite."""

import math
import os
import signal
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import cases, commands, side_by_side
from tests.support.top_level_packages import (
    _packages_keep_their_installed_names,  # noqa: F401 (used by every run)
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that is not interactive starts its background jobs so; some tests are about Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The clock runs on while other programs use the processors.
settings.register_profile("any time", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any time")


def pytest_configure(config):
    config.pluginmanager.register(cases)
    config.pluginmanager.register(side_by_side)


@pytest.fixture
def chunks_of(monkeypatch):
    """Sets the bytes of a chunk, for rows in memory and in stores that were given no size."""
    return partial(monkeypatch.setattr, "tensorstate_gpu._layers.chunked_buffer.CHUNK_BYTES")


@pytest.fixture
def small_chunks(chunks_of):
    """Chunks of ten rows of two bytes, two integer labels, or one string."""
    chunks_of(20)


@pytest.fixture
def small_pieces(monkeypatch, chunks_of):
    """Chunks of 4 rows of two bytes, pieces of 3, row groups of at least 2 of these."""
    chunks_of(8)
    for module in ("_states.parquet", "_layers.arrow_rows"):
        monkeypatch.setattr(f"tensorstate_gpu.{module}.PIECE_ROWS", 3)
    monkeypatch.setattr("tensorstate_gpu._states.parquet.ROW_GROUP_BYTES", 50)


@pytest.fixture
def quick_path(tmp_path):
    """Where a store may lie: in memory where Linux has such a folder, 1.5 times as fast."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path / "run.zarr"
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder) / "run.zarr"


@pytest.fixture
def run(tmp_path, small_chunks):
    """The path of the store that labelled_store.py describes."""
    from tests.support.labelled_store import write_run  # not on hosts without zarr

    return write_run(tmp_path / "run")


@pytest.fixture
def stored(tmp_path):
    """The path of the store that closed_store.py writes."""
    from tests.support.closed_store import write_closed

    return write_closed(tmp_path / "run")


@pytest.fixture
def nothing_compiled_before():
    """What torch.compile keeps of other models is forgotten, before a test and after it."""
    import torch

    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def without_progress(monkeypatch):
    """Commands say nothing of their progress, however slow the machine is."""
    monkeypatch.setattr("tensorstate_gpu._process.progress.SECONDS", math.inf)


@pytest.fixture
def did(capsys, without_progress):
    """Runs a command: its exit code, stdout and stderr."""
    return partial(commands.ran, capsys)


@pytest.fixture
def refused(capsys, without_progress):
    """Runs a command that fails: the one line on stderr."""
    return partial(commands.refused, capsys)
