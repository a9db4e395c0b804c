"""The wheel must hold every package of the tree; .ci/check_wheel.py sees one that is missing."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("check_wheel", ROOT / ".ci/check_wheel.py")
check_wheel = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_wheel)


@pytest.fixture
def tree(tmp_path):
    """A copy of what a wheel is built from."""
    for root in check_wheel.ROOTS:
        shutil.copytree(ROOT / root, tmp_path / root, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def wheel_of(names, path):
    wheel = path / "tensorstate_gpu-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in [*names, "tensorstate_gpu-0.dist-info/licenses/LICENSE"]:
            archive.writestr(name, "")
    return wheel


def test_a_whole_wheel_passes(tree):
    assert check_wheel.faults(wheel_of(check_wheel.wanted(tree), tree), tree) == []


@pytest.mark.parametrize("root", check_wheel.ROOTS)
def test_a_package_that_is_left_out_is_seen(root, tree):
    old = check_wheel.wanted(tree)
    package = tree / root / "a_new_one"
    package.mkdir()
    (package / "__init__.py").touch()
    missing = f"{check_wheel.ROOTS[root]}/a_new_one/__init__.py"
    assert check_wheel.faults(wheel_of(old, tree), tree) == [f"missing: [{missing!r}]"]


def test_setup_finds_what_must_be_in_the_wheel(tree):
    """As setuptools derives it, without building: a new package of each root among them."""
    for root in check_wheel.ROOTS:
        (tree / root / "a_new_one").mkdir()
        (tree / root / "a_new_one" / "__init__.py").touch()
    program = (
        "import setuptools; setuptools.setup = lambda **given: print(*given['packages']); "
        "exec(open('setup.py').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, capture_output=True, text=True, check=True
    )
    modules = (name for name in check_wheel.wanted(tree) if name.endswith("/__init__.py"))
    due = {name.removesuffix("/__init__.py").replace("/", ".") for name in modules}
    assert set(done.stdout.split()) == due
