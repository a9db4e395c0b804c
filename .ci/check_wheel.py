"""List a wheel, and fail unless it is universal, typed, and holds the package and nothing else.

What it must hold is read from the source tree: every folder with an ``__init__.py`` below the three
roots, so that a new sub-package cannot be left out unnoticed.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where each root of the source tree is installed.
ROOTS = {
    "tensorstate_gpu": "tensorstate_gpu",
    "bridges": "tensorstate_gpu/bridges",
    "cpu_fallback": "tensorstate_gpu/cpu_fallback",
}
KERNELS = "tensorstate_gpu/cuda/kernels"  # whose files are data


def wanted(tree: Path) -> set[str]:
    """The files that a wheel of this source tree must hold."""
    files = {"tensorstate_gpu/py.typed"}
    for root, place in ROOTS.items():
        for source in _sources(tree / root):
            files.add(f"{place}/{source.relative_to(tree / root).as_posix()}")
    return files | {f"{KERNELS}/{path.name}" for path in (tree / KERNELS).glob("*.*")}


def _sources(root: Path) -> Iterator[Path]:
    for package in root.rglob("__init__.py"):
        yield from package.parent.glob("*.py")


def faults(wheel: Path, tree: Path) -> list[str]:
    """Everything that is wrong with the wheel, in words."""
    names = set(zipfile.ZipFile(wheel).namelist())
    found = []
    if not wheel.name.endswith("py3-none-any.whl"):
        found.append(f"not universal: {wheel.name}")
    tops = {name.split("/")[0] for name in names}
    extra = {top for top in tops if top != "tensorstate_gpu" and not top.endswith(".dist-info")}
    if extra:
        found.append(f"at the top level of the wheel: {sorted(extra)}")
    due = wanted(tree)
    code = {name for name in names if name.endswith((".py", "py.typed"))}
    if missing := due - names:
        found.append(f"missing: {sorted(missing)}")
    if stray := code - due:
        found.append(f"not in the source tree: {sorted(stray)}")
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        found.append("no licence")
    return found


if __name__ == "__main__":
    path = Path(sys.argv[1])
    for name in sorted(zipfile.ZipFile(path).namelist()):
        print("  ", name)
    problems = faults(path, ROOT)
    for problem in problems:
        print("wheel:", problem, file=sys.stderr)
    sys.exit(bool(problems))
