"""Doctests of the packages at the top of the repository, under their installed names.

pytest's own collection goes by path, and would import them under the wrong name.
"""

import doctest
import importlib
from pathlib import Path

import pytest

from tests.support.top_level_packages import TOP_LEVEL_PACKAGES

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "cupy")
MODULES = {
    ".".join(("tensorstate_gpu", *source.relative_to(ROOT).with_suffix("").parts)): source
    for package in TOP_LEVEL_PACKAGES
    for source in sorted((ROOT / package).rglob("*.py"))
    if source.stem != "__init__" and ">>> " in source.read_text()
}


def of_framework(name: str) -> str:
    """jax or keras3, whose bridges are tested among their cases; else nothing."""
    _, package, module, *_ = name.split(".")
    found = module.partition("_")[0]
    return found if package == "bridges" and found in ("jax", "keras3") else ""


def doctests_of(framework: str) -> pytest.MarkDecorator:
    """Parametrise a test by the ``name`` of each module that has doctests."""
    return pytest.mark.parametrize("name", [n for n in MODULES if of_framework(n) == framework])


def check_doctests(name: str) -> None:
    """Run the doctests of a module: none fails, and none is passed over."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if any(f"need {framework}" in str(error) for framework in FRAMEWORKS):
            pytest.skip(str(error))
        raise
    found = doctest.testmod(module)  # what it prints is shown if this fails
    assert (found.failed, found.attempted) == (0, MODULES[name].read_text().count(">>> "))
