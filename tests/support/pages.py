"""The programs that pages of the documentation show, for the tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def programs_of(page: str) -> list[str]:
    """Return the programs of a page, such as "docs/keras.md". They are marked as Python there."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def run(program: str) -> None:
    """Run a program in this process. It begins with no names."""
    exec(program, {"__name__": "__main__"})
