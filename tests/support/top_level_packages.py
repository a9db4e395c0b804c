"""The two rooms at the top of the repository, which a run may load only as tensorstate_gpu.*."""

import sys
from collections.abc import Iterable, Iterator

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
