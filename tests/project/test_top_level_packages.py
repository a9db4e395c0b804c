"""bridges and cpu_fallback, at the top of the repository, load only as tensorstate_gpu.*: once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import bridge_doctests
from tests.support.top_level_packages import TOP_LEVEL_PACKAGES, loaded_under_own_name

ROOT = Path(__file__).parents[2]


# Those of JAX and of Keras are among their cases, whose processes have loaded the frameworks.
@bridge_doctests.doctests_of("")
def test_doctests_of_top_level_packages(name: str) -> None:
    bridge_doctests.check_doctests(name)


def test_doctests_of_frameworks_are_among_their_cases() -> None:
    found = {bridge_doctests.of_framework(name) for name in bridge_doctests.MODULES}
    assert found == {"", "jax", "keras3"}


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
