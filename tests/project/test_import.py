"""What `import tensorstate_gpu` costs, what it loads, and what it can do without."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy
import pytest

import tensorstate_gpu
from tests.support.samples import sweep, thinned

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
HEAVY = ("torch", "tensorflow", "jax", "keras", "cupy", "numba", "zarr")
OPTIONAL = ("torch", "sklearn", "tqdm", "cupy", "keras", "jax", "tensorflow")
PUBLIC = {
    "AbstractStateCapture",
    "CapturePoint",
    "GroupedCounts",
    "PaddedCounts",
    "RankCounts",
    "RankRun",
    "Run",
    "StateCapture",
    "StateCaptureHook",
    "StateCounts",
    "StateMonitor",
    "Store",
    "StoredCounts",
    "StoredGroups",
    "__version__",
    "aIQ",
    "bits",
    "build_efficiency_model",
    "capture",
    "compress_states",
    "count_part",
    "count_states",
    "count_stores",
    "decompress_states",
    "entropy",
    "errors",
    "get_memory_limit",
    "get_num_threads",
    "information",
    "merge",
    "merge_counts",
    "merge_range",
    "network_efficiency",
    "neurons",
    "open_stores",
    "popcount",
    "remove_state_layers",
    "report",
    "reporting",
    "reset_efficiency_model",
    "set_memory_limit",
    "set_num_threads",
    "sort_states",
    "store",
    "tap",
    "testing",
    "training",
}

# The finder and the small job, for a fresh interpreter.
BLOCK = """
import sys

class Block:
    names = frozenset()
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocker = Block()
sys.meta_path.insert(0, blocker)
"""
WORK = """
import numpy as np

def work():
    import tensorstate_gpu as ts
    packed = ts.compress_states(np.array([[1.0, -1.0], [1.0, -1.0], [0.0, 2.0]], np.float32))
    assert packed.tolist() == [[1], [1], [2]]
    counts = ts.count_states(packed, neurons=2)
    assert counts.counts.tolist() == [2, 1]
    assert ts.decompress_states(packed, 2)[2].tolist() == [False, True]
"""


def python(code: str, cwd: Path) -> str:
    """Run code in a fresh interpreter, away from the repository; give what it printed."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def heavy_after(code: str, cwd: Path) -> list[str]:
    """Which of HEAVY are loaded after running the code."""
    loaded = python(f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))", cwd)
    return sorted(set(HEAVY) & set(json.loads(loaded.splitlines()[-1])))


@pytest.mark.parametrize(
    "code",
    ["import tensorstate_gpu", "import tensorstate_gpu as ts\ndir(ts)\nts.__version__\nts.__all__"],
    ids=["import", "dir"],
)
def test_import_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    assert heavy_after(code, tmp_path) == []


def test_the_check_for_heavy_modules_can_fail(tmp_path: Path) -> None:
    assert "zarr" in heavy_after("import tensorstate_gpu, zarr", tmp_path)


def seconds_over_numpy(extra: str, cwd: Path, runs: int = 5) -> float:
    """The least of some runs of importing the package, and ``extra``, after NumPy.

    Of the processor's time: what other programs take of it does not count.
    """
    code = (
        "import time, numpy\nstart = time.process_time()\n"
        f"import tensorstate_gpu\n{extra}\nprint(time.process_time() - start)"
    )
    return min(float(python(code, cwd)) for _ in range(runs))


@pytest.mark.serial
def test_import_takes_under_a_fifth_of_a_second_over_numpy(tmp_path: Path) -> None:
    assert seconds_over_numpy("", tmp_path) < 0.2


def test_the_check_of_the_time_can_fail(tmp_path: Path) -> None:
    busy = "while time.process_time() - start < 0.25: pass"
    assert seconds_over_numpy(busy, tmp_path, runs=1) > 0.2


@sweep
def test_works_without_any_of_the_optional_packages(every: bool, tmp_path: Path) -> None:
    # One interpreter for all 128 subsets: the package is loaded afresh for each, its kernels
    # (a leaf that knows nothing of optional packages) once. Some: none, each one, all.
    sizes = [*range(8)] if every else [0, 1, 7]
    code = f"""
{BLOCK}{WORK}
from itertools import chain, combinations
optional = {OPTIONAL!r}
subsets = chain.from_iterable(combinations(optional, n) for n in {sizes})
done = 0
for missing in subsets:
    for name in list(sys.modules):
        top, _, rest = name.partition(".")
        if top == "tensorstate_gpu" and not rest.startswith("cpu_fallback"):
            del sys.modules[name]
    blocker.names = frozenset(missing)
    work()
    assert not set(optional) & set(sys.modules), set(optional) & set(sys.modules)
    done += 1
print(done)
"""
    assert python(code, tmp_path).strip() == ("128" if every else "9")


def test_names_without_a_framework_resolve_without_one(tmp_path: Path) -> None:
    code = f"""
{BLOCK}
blocker.names = frozenset({[*OPTIONAL, "hypothesis"]!r})
import tensorstate_gpu as ts
of_a_framework = {{"PaddedCounts", "StateCapture", "StateCaptureHook", "tap", "testing"}}
for name in ts.__all__:
    getattr(ts, name)
for name in of_a_framework:
    for access in (f"ts.{{name}}", f"from tensorstate_gpu import {{name}}"):
        try:
            exec(access)
        except (AttributeError, ImportError) as error:
            assert "pip install" in str(error), error
        else:
            raise AssertionError(f"{{name}} came without its framework")
    assert not hasattr(ts, name)
    assert name not in ts.__all__
from tensorstate_gpu import *
import pydoc
assert "compress_states" in pydoc.render_doc(ts)
"""
    python(code, tmp_path)


def test_what_stays_in_memory_needs_neither_zarr_nor_checksums(tmp_path: Path) -> None:
    code = f"""{BLOCK}
blocker.names = frozenset(["zarr", "google_crc32c"]){WORK}
import tensorstate_gpu as ts
work()
for keep in ("states", "counts"):
    point = ts.CapturePoint("layer", keep=keep)
    point.declare(12)
    point.append(np.array([[1, 0], [1, 0]], np.uint8), 2)
    assert point.counts().tolist() == [2]
"""
    python(code, tmp_path)


def test_the_blocker_can_fail_a_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No module named 'tqdm'"):
        python(f"{BLOCK}\nblocker.names = frozenset(['tqdm'])\nimport tqdm", tmp_path)


NO_DEVICE = """
class CUDARuntimeError(RuntimeError):
    pass

def getDeviceCount():
    raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

getDevice = getDeviceCount
"""


NO_LIBRARY = "raise ImportError('libcuda.so.1: cannot open shared object file')\n"
CUPY_WITHOUT = {
    "device": "from cupy import cuda\n\nclass ndarray:\n    pass\n",
    "library": NO_LIBRARY,
}
BEFORE = {"installed": "pass", "imported by the caller": "import cupy"}
PAIRS = [("device", "imported by the caller"), ("library", "installed")]


@pytest.mark.parametrize(("without", "before"), thinned([*product(CUPY_WITHOUT, BEFORE)], PAIRS))
def test_works_with_cupy_on_a_machine_without_a_gpu(
    without: str, before: str, tmp_path: Path
) -> None:
    cuda = tmp_path / "site" / "cupy" / "cuda"
    cuda.mkdir(parents=True)
    (cuda / "runtime.py").write_text(NO_DEVICE)
    (cuda / "__init__.py").write_text(
        "from cupy.cuda import runtime\n\ndef is_available():\n    return False\n"
    )
    (cuda.parent / "__init__.py").write_text(CUPY_WITHOUT[without])
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
try:
    {BEFORE[before]}
except ImportError:
    pass
{WORK}
work()
"""
    python(code, tmp_path)


def test_public_names_are_exactly_the_documented_ones() -> None:
    assert set(tensorstate_gpu.__all__) == PUBLIC
    assert len(tensorstate_gpu.__all__) == len(PUBLIC)
    assert set(dir(tensorstate_gpu)) >= PUBLIC


# tests/bridges/keras3 and jax resolve theirs, in processes of their own.
@pytest.mark.parametrize(
    "name", sorted(PUBLIC - {"PaddedCounts", "StateCapture", "StateCaptureHook", "tap"})
)
def test_public_name_resolves(name: str) -> None:
    assert getattr(tensorstate_gpu, name) is not None


def test_hook_resolves_with_torch() -> None:
    pytest.importorskip("torch")
    assert tensorstate_gpu.StateCaptureHook.__name__ == "StateCaptureHook"


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("EfficiencyCallback", "transformers"),
        ("EfficiencyMonitor", "lightning"),
        ("StateEfficiency", "keras"),
    ],
)
def test_a_callback_without_its_framework_says_what_to_install(
    name: str, package: str, tmp_path: Path
) -> None:
    code = f"""
{BLOCK}
blocker.names = frozenset([{package!r}])
import tensorstate_gpu.training as training
try:
    training.{name}
except ImportError as error:
    print(error)
"""
    pattern = f"{name} needs {package}: pip install {package}"
    assert re.match(pattern, python(code, tmp_path), re.IGNORECASE)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compress'"):
        tensorstate_gpu.compress  # noqa: B018


def test_version_is_that_of_the_installation_and_of_the_citation() -> None:
    citation = (PYPROJECT.parent / "CITATION.cff").read_text()
    assert tensorstate_gpu.__version__ == version("tensorstate_gpu")
    assert f"\nversion: {tensorstate_gpu.__version__}\n" in citation


def test_an_import_from_a_bare_source_tree_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(PYPROJECT.parent / "tensorstate_gpu", tmp_path / "tensorstate_gpu")
    # Without site: an editable installation would find the other packages all the same.
    path = [str(tmp_path), str(Path(numpy.__file__).parent.parent)]
    code = f"import sys; sys.path[:0] = {path}; import tensorstate_gpu"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: tensorstate_gpu was imported from")
    assert "pip install --editable ." in message


def test_hints_name_packages_that_can_be_installed():
    """This package is on no index yet: its extras can be installed from a clone only."""
    for folder in ("tensorstate_gpu", "bridges"):
        for file in (Path(__file__).parents[2] / folder).rglob("*.py"):
            if "cuda" not in file.parts:
                assert "install 'tensorstate_gpu[" not in file.read_text(), file
