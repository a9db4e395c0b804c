"""The packages at the top of the repository, which a run may load only as tensorstate_gpu.*."""

import sys
from collections.abc import Iterable, Iterator

import pytest

TOP_LEVEL_PACKAGES = ("bridges", "cpu_fallback")


def loaded_under_own_name(modules: Iterable[str]) -> list[str]:
    """Modules of these packages that were loaded outside tensorstate_gpu: they can load twice."""
    return sorted(name for name in modules if name.split(".")[0] in TOP_LEVEL_PACKAGES)


@pytest.fixture(scope="session", autouse=True)
def _packages_keep_their_installed_names() -> Iterator[None]:
    yield
    wrong = loaded_under_own_name(sys.modules)
    assert not wrong, f"import these as tensorstate_gpu.*: {wrong}"
