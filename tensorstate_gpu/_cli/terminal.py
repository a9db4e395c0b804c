"""How wide the terminal is that a command prints to."""

import shutil
import sys


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None if it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
