"""bridges and cpu_fallback, at the top of the repository, load only as tensorstate_gpu.*: once."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.top_level_packages import TOP_LEVEL_PACKAGES, loaded_under_own_name

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"torch", "tensorflow", "jax", "keras", "cupy"}
MODULES = {
    ".".join(("tensorstate_gpu", *source.relative_to(ROOT).with_suffix("").parts)): source
    for package in TOP_LEVEL_PACKAGES
    for source in sorted((ROOT / package).rglob("*.py"))
    if source.stem != "__init__" and ">>> " in source.read_text()
}
# Each framework has a process of its own: JAX warns of every fork once it is imported.
DOCTESTS = """
import doctest, importlib, json, sys, traceback
sys.path.insert(0, sys.argv[1])
from tests.support.public_doctests import look_into_public_classes
look_into_public_classes()
for name in sys.argv[2:]:
    try:
        found, error = doctest.testmod(importlib.import_module(name)), ""
    except Exception:
        found, error = None, traceback.format_exc()
    numbers = found and [found.failed, found.attempted]
    print("found", json.dumps([name, numbers, error]), flush=True)
"""


def process_of(name: str) -> str:
    """jax, keras3 and pytorch for the bridges; else the package."""
    _, package, module, *_ = name.split(".")
    return module.partition("_")[0] if package == "bridges" else package


@functools.cache
def doctests(process: str) -> tuple[dict[str, Any], str]:
    """Name of a module -> [failed, attempted], and why it could not be imported; all output."""
    names = [name for name in MODULES if process_of(name) == process]
    done = subprocess.run(
        [sys.executable, "-c", DOCTESTS, str(ROOT), *names], capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    found = [json.loads(line.removeprefix("found ")) for line in lines]
    return {name: tuple(rest) for name, *rest in found}, done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_top_level_packages(name: str) -> None:
    # pytest's own collection goes by path, and would import them under the wrong name.
    found, output = doctests(process_of(name))
    assert name in found, output
    numbers, error = found[name]
    if any(f"need {word}" in error for word in FRAMEWORKS):
        pytest.skip(error.splitlines()[-1])
    assert not error
    assert numbers == [0, MODULES[name].read_text().count(">>> ")], output


def test_modules_under_their_own_name_are_told_apart() -> None:
    wrong = ["bridges", "bridges.pytorch", "cpu_fallback.pool"]
    right = ["tensorstate_gpu.bridges", "tensorstate_gpu.cpu_fallback.pool", "bridgestone"]
    assert loaded_under_own_name(wrong + right) == wrong


@pytest.mark.parametrize("package", TOP_LEVEL_PACKAGES)
def test_a_run_that_loads_a_package_under_its_own_name_fails(package: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        (ROOT / "tests/support/top_level_packages.py").read_text()
    )
    (tmp_path / f"{package}.py").touch()
    (tmp_path / "test_wrong.py").write_text(f"def test_wrong():\n    import {package}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "import these as tensorstate_gpu.*" in run.stdout
