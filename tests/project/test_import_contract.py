"""The layers of the package: imports go one way, and the rules that pyproject.toml states hold."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# The face and training name bridges for type checkers.
BORDER = {"_arrays.frameworks", "__init__", "training.__init__"}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder that holds the package as it is installed."""
    return laid_out(tmp_path_factory.mktemp("layout"))


def laid_out(folder):
    subprocess.run([ROOT / ".ci/lay_out", folder], check=True)
    return folder


def contracts(folder):
    """What import-linter says of a package in a folder."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--no-logo", ROOT / "pyproject.toml"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_imports_keep_the_contracts(package):
    done = contracts(package)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 4 kept, 0 broken." in done.stdout


# Where a line is planted, the line, and the words that name the contract it breaks.
PLANTED = {
    "up": ("_states/bits.py", "from tensorstate_gpu._layers import ledger", "Imports go one way"),
    "between twins": ("cuda/sort.py", "from tensorstate_gpu import cpu_fallback", "one way"),
    "unplaced": ("new_layer.py", "", "one way"),
    "circle": ("store/keys.py", "from tensorstate_gpu.store import store", "No circle"),
    "oracle": ("testing.py", "from tensorstate_gpu._arrays import layout", "The oracle"),
    "cupy": ("store/keys.py", "import cupy", "CuPy"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_contracts_can_break(kind, tmp_path):
    file, line, broken = PLANTED[kind]
    path = laid_out(tmp_path) / "tensorstate_gpu" / file
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    done = contracts(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(broken in line and "BROKEN" in line for line in done.stdout.splitlines())


IMPORTERS_OF_THE_FACE = """
import grimp
graph = grimp.build_graph("tensorstate_gpu", cache_dir=None)
print(sorted(graph.find_modules_that_directly_import("tensorstate_gpu")))
"""


def importers_of_the_face(folder):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTERS_OF_THE_FACE],  # here the package is imported already
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_module_imports_the_face(package):
    assert importers_of_the_face(package) == "[]"


def test_an_import_of_the_face_is_seen(tmp_path):
    path = laid_out(tmp_path) / "tensorstate_gpu/store/keys.py"
    path.write_text(path.read_text() + "\nfrom tensorstate_gpu import __version__\n")
    assert importers_of_the_face(tmp_path) == "['tensorstate_gpu.store.keys']"


def test_one_file_names_the_bridges(package):
    naming = {
        ".".join(path.relative_to(package / "tensorstate_gpu").with_suffix("").parts)
        for path in (package / "tensorstate_gpu").rglob("*.py")
        if "bridges." in path.read_text() or "import bridges" in path.read_text()
    }
    assert {name for name in naming if not name.startswith("bridges")} == BORDER
