""".ci/check_distributions.py sees what a wheel or a source distribution lacks."""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location(
    "check_distributions", ROOT / ".ci/check_distributions.py"
)
checks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checks)


@pytest.fixture
def tree(tmp_path):
    """A copy of what a wheel is built from."""
    for root in checks.ROOTS:
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
    assert checks.faults_of_wheel(wheel_of(checks.wanted_in_wheel(tree), tree), tree) == []


@pytest.mark.parametrize("root", checks.ROOTS)
def test_a_package_that_is_left_out_is_seen(root, tree):
    old = checks.wanted_in_wheel(tree)
    package = tree / root / "a_new_one"
    package.mkdir()
    (package / "__init__.py").touch()
    missing = f"{checks.ROOTS[root]}/a_new_one/__init__.py"
    assert checks.faults_of_wheel(wheel_of(old, tree), tree) == [f"missing: [{missing!r}]"]


def test_setup_finds_what_must_be_in_the_wheel(tree):
    """As setuptools derives it, without building: a new package of each root among them."""
    for root in checks.ROOTS:
        (tree / root / "a_new_one").mkdir()
        (tree / root / "a_new_one" / "__init__.py").touch()
    program = (
        "import setuptools; setuptools.setup = lambda **given: print(*given['packages']); "
        "exec(open('setup.py').read())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, capture_output=True, text=True, check=True
    )
    modules = (name for name in checks.wanted_in_wheel(tree) if name.endswith("/__init__.py"))
    due = {name.removesuffix("/__init__.py").replace("/", ".") for name in modules}
    assert set(done.stdout.split()) == due


def test_a_module_of_an_earlier_version_is_not_built(tree):
    """Of ``git pull`` and ``pip install .`` in a clone where that was done before."""
    before = tree / "build/lib/tensorstate_gpu/removed.py"
    before.parent.mkdir(parents=True)
    before.touch()
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build", "--build-base=build"]
    subprocess.run(command, cwd=tree, capture_output=True, check=True)
    built = tree / "build/lib"
    files = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert files == {name for name in checks.wanted_in_wheel(tree) if "dist-info" not in name}


def test_a_build_into_the_source_folder_deletes_nothing_of_it(tree):
    before = {path.name for path in (tree / "tensorstate_gpu").iterdir()}
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "build", "--build-lib=."]
    subprocess.run(command, cwd=tree, capture_output=True, check=False)
    assert before <= {path.name for path in (tree / "tensorstate_gpu").iterdir()}


def sdist_of(names, path):
    sdist = path / "tensorstate_gpu-0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"tensorstate_gpu-0/{name}"))
    return sdist


def test_a_file_that_a_source_distribution_lacks_is_seen(tree, tmp_path_factory):
    shutil.copy(ROOT / ".gitignore", tree)
    (tree / ".venv").mkdir()
    (tree / ".venv/ignored.py").touch()
    wanted, folder = checks.wanted_in_sdist(tree), tmp_path_factory.mktemp("sdist")
    assert checks.faults_of_sdist(sdist_of(wanted, folder), tree) == []
    fewer = sdist_of(wanted - {"setup.py"}, folder)
    assert checks.faults_of_sdist(fewer, tree) == ["missing: ['setup.py']"]
