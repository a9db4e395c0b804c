"""For every run of pytest, also of a single file: doctests of public classes are found."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from tests.support.public_doctests import look_into_public_classes

look_into_public_classes()
