"""A disk that is full after so many more files."""

import errno
import os
import sys

from tensorstate_gpu.store.folder import FileSystemCalls


class Disk(FileSystemCalls):
    """A disk that has room for so many more files, if that is known."""

    def __init__(self, room=sys.maxsize):
        self.room = room

    def write(self, path, parts):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.room -= 1
        super().write(path, parts)
