"""What holds for every run of the suite."""

import sys
from collections.abc import Iterable, Iterator
from functools import partial

import commands
import pytest

ROOMS = ("bridges", "cpu_fallback")


def loaded_under_own_name(modules: Iterable[str]) -> list[str]:
    """Modules of the rooms that were loaded as top-level packages, and so can load twice."""
    return sorted(name for name in modules if name.split(".")[0] in ROOMS)


@pytest.fixture(scope="session", autouse=True)
def _rooms_keep_their_installed_names() -> Iterator[None]:
    yield
    wrong = loaded_under_own_name(sys.modules)
    assert not wrong, f"import these as tensorstate_gpu.*: {wrong}"


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of stores: ten rows of two bytes, two integer labels, or one string."""
    monkeypatch.setattr("tensorstate_gpu.store.columns.CHUNK_BYTES", 20)


@pytest.fixture
def run(tmp_path, small_chunks):
    """The path of the store that labelled_store.py describes."""
    from labelled_store import write_run  # not on hosts without zarr

    return write_run(tmp_path / "run")


@pytest.fixture
def did(capsys):
    """Runs a command: its exit code, stdout and stderr."""
    return partial(commands.ran, capsys)


@pytest.fixture
def refused(capsys):
    """Runs a command that fails: the one line on stderr."""
    return partial(commands.refused, capsys)
