"""The code of the documents, run in this process: each program begins with no names."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def programs_of(page):
    """The programs in Python that a page of docs/ shows, in order."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run(program):
    exec(program, {"__name__": "__main__"})
