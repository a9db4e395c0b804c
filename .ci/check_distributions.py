"""List a wheel, and fail unless it and the source distribution hold what they must.

A wheel is universal, typed, and holds the package and nothing else: every folder with an
``__init__.py`` below the three roots, so that a new sub-package cannot be left out unnoticed. A
source distribution holds all files of the repository, so that its tests run.
"""

import sys
import tarfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where each root of the source tree is installed.
ROOTS = {
    "tensorstate_gpu": "tensorstate_gpu",
    "bridges": "tensorstate_gpu/bridges",
    "cpu_fallback": "tensorstate_gpu/cpu_fallback",
}
# Folders whose other files are data: CUDA sources, and the parts of an HTML page.
WITH_DATA = ("tensorstate_gpu/cuda/kernels", "tensorstate_gpu/reporting/page")


def wanted_in_wheel(tree: Path) -> set[str]:
    """The files that a wheel of this source tree must hold."""
    files = {"tensorstate_gpu/py.typed"}
    for root, place in ROOTS.items():
        for source in _sources(tree / root):
            files.add(f"{place}/{source.relative_to(tree / root).as_posix()}")
    data = (path for folder in WITH_DATA for path in (tree / folder).glob("*.*"))
    return files | {path.relative_to(tree).as_posix() for path in data}


def _sources(root: Path) -> Iterator[Path]:
    for package in root.rglob("__init__.py"):
        yield from package.parent.glob("*.py")


def faults_of_wheel(wheel: Path, tree: Path) -> list[str]:
    """Everything that is wrong with the wheel, in words."""
    names = set(zipfile.ZipFile(wheel).namelist())
    found = []
    if not wheel.name.endswith("py3-none-any.whl"):
        found.append(f"not universal: {wheel.name}")
    tops = {name.split("/")[0] for name in names}
    extra = {top for top in tops if top != "tensorstate_gpu" and not top.endswith(".dist-info")}
    if extra:
        found.append(f"at the top level of the wheel: {sorted(extra)}")
    due = wanted_in_wheel(tree)
    code = {name for name in names if name.endswith((".py", "py.typed"))}
    if missing := due - names:
        found.append(f"missing: {sorted(missing)}")
    if stray := code - due:
        found.append(f"not in the source tree: {sorted(stray)}")
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        found.append("no licence")
    return found


def wanted_in_sdist(tree: Path) -> set[str]:
    """The files of a source tree that Git does not ignore."""
    ignored = [line.rstrip("/") for line in (tree / ".gitignore").read_text().split()]
    files = (path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
    return {
        file.as_posix()
        for file in files
        if file.parts[0] != ".git"
        and not any(fnmatch(part, rule) for part in file.parts for rule in ignored)
    }


def faults_of_sdist(sdist: Path, tree: Path) -> list[str]:
    """Everything that is missing in the source distribution, in words."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = wanted_in_sdist(tree) - names
    return [f"missing: {sorted(missing)}"] if missing else []


if __name__ == "__main__":
    wheel, sdist = map(Path, sys.argv[1:])
    for name in sorted(zipfile.ZipFile(wheel).namelist()):
        print("  ", name)
    problems = [f"wheel: {fault}" for fault in faults_of_wheel(wheel, ROOT)]
    problems += [f"source distribution: {fault}" for fault in faults_of_sdist(sdist, ROOT)]
    print(*problems, sep="\n", file=sys.stderr)
    sys.exit(bool(problems))
