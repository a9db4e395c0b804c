"""Which packages are installed, and from where; all else about the project is in pyproject.toml.

``bridges`` and ``cpu_fallback`` lie at the top of the repository and are installed inside
``tensorstate_gpu``. Every folder with an ``__init__.py`` below the three roots is a package.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOTS = {
    "tensorstate_gpu": "tensorstate_gpu",
    "tensorstate_gpu.bridges": "bridges",
    "tensorstate_gpu.cpu_fallback": "cpu_fallback",
}


class FreshBuild(build_py):
    """Leaves nothing of an earlier version in build/, which pip would install as well."""

    def run(self) -> None:
        built = Path(self.build_lib) / "tensorstate_gpu"
        if not (self.editable_mode or built.resolve() == Path("tensorstate_gpu").resolve()):
            shutil.rmtree(built, ignore_errors=True)
        super().run()


setup(
    cmdclass={"build_py": FreshBuild},
    packages=[
        package
        for root, folder in ROOTS.items()
        for package in (root, *(f"{root}.{found}" for found in find_packages(folder)))
    ],
    package_dir=ROOTS,
)
