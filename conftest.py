"""For every run of pytest, also of a single file: doctests of public classes are found."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tests.support.public_doctests import look_into_public_classes

look_into_public_classes()


def pytest_ignore_collect(collection_path):
    """A module without doctests is not imported for them: it may take a framework, and seconds."""
    name, folder = collection_path.name, collection_path.parent.name
    if collection_path.suffix != ".py" or folder == "cases" or name.startswith(("test_", "bench_")):
        return None
    return True if ">>> " not in collection_path.read_text() else None
