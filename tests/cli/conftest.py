"""A module of a user, for the tests of `tensorstate capture`."""

import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).with_name("users_models.py")


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """The current folder, with the user's module; nothing of it stays in this process."""
    (tmp_path / "mine.py").write_text(MODULE.read_text())
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("mine", "broken", "leaving", "ending", "moving", "2024_my-net"):
        sys.modules.pop(name, None)
