"""What malloc does while we time."""

import ctypes
import os


def keep_freed_memory() -> None:
    """Let glibc's malloc give no memory back to the system.

    Else new arrays cost page faults, more or fewer by chance: torch's own forward pass takes
    between 900 and 8,000, and a run tells nothing about capture.
    """
    if os.name != "posix":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 30)
