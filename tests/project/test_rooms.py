"""The two rooms at the top of the repository load only as tensorstate_gpu.*: once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rooms import ROOMS, loaded_under_own_name

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"torch", "tensorflow", "jax", "keras", "cupy"}
MODULES = {
    ".".join(("tensorstate_gpu", *source.relative_to(ROOT).with_suffix("").parts)): source
    for room in ROOMS
    for source in sorted((ROOT / room).rglob("*.py"))
    if source.stem != "__init__"
}
# In a process of its own: JAX warns of every fork once it is imported.
DOCTESTS = """
import doctest, importlib, sys
sys.path.insert(0, {root!r})
from tests.support.public_doctests import look_into_public_classes
look_into_public_classes()
print(doctest.testmod(importlib.import_module({name!r})))
"""


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_the_rooms(name: str) -> None:
    # pytest's own collection goes by path, and would import them under the wrong name.
    code = DOCTESTS.format(root=str(ROOT), name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode and any(f"need {word}" in done.stderr for word in FRAMEWORKS):
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert "failed=0" in done.stdout
    attempted = int(done.stdout.split("attempted=")[1].split(")")[0])
    assert attempted == MODULES[name].read_text().count(">>> ")


def test_modules_under_their_own_name_are_told_apart() -> None:
    wrong = ["bridges", "bridges.pytorch", "cpu_fallback.pool"]
    right = ["tensorstate_gpu.bridges", "tensorstate_gpu.cpu_fallback.pool", "bridgestone"]
    assert loaded_under_own_name(wrong + right) == wrong


@pytest.mark.parametrize("room", ROOMS)
def test_a_run_that_loads_a_room_under_its_own_name_fails(room: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/support/rooms.py").read_text())
    (tmp_path / f"{room}.py").touch()
    (tmp_path / "test_wrong.py").write_text(f"def test_wrong():\n    import {room}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "import these as tensorstate_gpu.*" in run.stdout
