"""What a disk may hold after a power cut: only what was fsynced is sure to be there."""

import dataclasses
from pathlib import Path

from tensorstate_gpu.store.folder import FileSystemCalls


@dataclasses.dataclass
class File:
    """A file's content as written, and as it was last fsynced."""

    content: bytes
    synced: bytes | None = None

    def after(self, random):
        """What may be found of it: all, the beginning, nothing, or what was fsynced."""
        if self.content == self.synced:
            return self.content
        candidates = [self.content, self.content[: len(self.content) // 2], b""]
        return random.choice([*candidates, *([] if self.synced is None else [self.synced])])


@dataclasses.dataclass
class Change:
    """A name given to a file or folder, or taken away (None), and not fsynced yet."""

    folder: Path
    name: str
    target: "File | str | None"  # "folder" for a folder


class RecordingSystem(FileSystemCalls):
    """Does what it is told, and keeps a list of it.

    Of all stores that are open, it lists what happens at ``path``, inside it, and around it.
    """

    def __init__(self, path):
        self._path = path
        self.operations = []

    def _note(self, operation, path, *arguments):
        if path.is_relative_to(self._path) or self._path.is_relative_to(path):
            self.operations.append((operation, path, *arguments))

    def write(self, path, parts):
        super().write(path, parts)
        self._note("write", path, b"".join(parts))

    def fsync(self, path):
        super().fsync(path)
        self._note("fsync", path)

    def replace(self, source, target):
        super().replace(source, target)
        self._note("replace", source, target)

    def mkdir(self, path):
        super().mkdir(path)
        self._note("mkdir", path)

    def unlink(self, path):
        if path.exists():
            self._note("unlink", path)
        super().unlink(path)

    def rmdir(self, path):
        super().rmdir(path)
        self._note("rmdir", path)


class Disk:
    """Names and files after some operations; which of the names are sure to be there."""

    def __init__(self):
        self.now = {}  # path -> File or "folder"
        self.sure = {}
        self.pending = []

    def do(self, operation, path, *rest):
        if operation == "fsync":
            self._fsync(path)
        elif operation == "write":
            if path in self.now:
                self.now[path].content = rest[0]
            else:
                self._change(path, File(rest[0]))
        elif operation == "replace":
            moved = self.now[path]
            self._change(path, None)
            self._change(rest[0], moved)
        else:
            self._change(path, "folder" if operation == "mkdir" else None)

    def _change(self, path, target):
        if target is None:
            self.now.pop(path)
        else:
            self.now[path] = target
        self.pending.append(Change(path.parent, path.name, target))

    def _fsync(self, path):
        found = self.now.get(path)
        if isinstance(found, File):
            found.synced = found.content
            return
        for change in [change for change in self.pending if change.folder == path]:
            self._settle(self.sure, change)
            self.pending.remove(change)

    @staticmethod
    def _settle(names, change):
        path = change.folder / change.name
        if change.target is None:
            names.pop(path, None)
        else:
            names[path] = change.target

    def after_power_cut(self, root, random, chance):
        """Write below ``root`` what may be there; each name not fsynced survives by ``chance``."""
        names = dict(self.sure)
        for change in self.pending:
            if random.random() < chance:
                self._settle(names, change)
        for path, target in sorted(names.items(), key=lambda item: len(item[0].parts)):
            place = root / path.relative_to(path.anchor)
            if not place.parent.is_dir():  # its folder's own name is lost
                continue
            if target == "folder":
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(target.after(random))
