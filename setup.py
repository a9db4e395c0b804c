"""Which packages are installed, and from where; all else about the project is in pyproject.toml.

``bridges`` and ``cpu_fallback`` lie at the top of the repository and are installed inside
``tensorstate_gpu``. Every folder with an ``__init__.py`` below the three roots is a package.
"""

from setuptools import find_packages, setup

ROOTS = {
    "tensorstate_gpu": "tensorstate_gpu",
    "tensorstate_gpu.bridges": "bridges",
    "tensorstate_gpu.cpu_fallback": "cpu_fallback",
}

setup(
    packages=[
        package
        for root, folder in ROOTS.items()
        for package in (root, *(f"{root}.{found}" for found in find_packages(folder)))
    ],
    package_dir=ROOTS,
)
