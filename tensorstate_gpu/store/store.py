"""Store: the packed states of one run, on disk or in an object store."""

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tensorstate_gpu import information
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.store.closing_at_exit import finish_closing
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.opened_record import begin, read_record
from tensorstate_gpu.store.options import WriterOptions, check_choice
from tensorstate_gpu.store.record import Record
from tensorstate_gpu.store.run_writer import RunWriter
from tensorstate_gpu.store.stored_layer import StoredLayer
from tensorstate_gpu.store.writing_session import WritingSession

if TYPE_CHECKING:
    from tensorstate_gpu.reporting import Report
    from tensorstate_gpu.store.verification import Verification

MODES = ("r", "x", "a")
DURABILITIES = ("process", "power")


class Store:
    """The states of one run, as they were last committed.

    Parameters
    ----------
    path : str, path or obstore store
        A local folder; ``memory://name``; or a URL of an object store, such as
        ``s3://bucket/run.zarr``, which needs obstore.
    mode : "r", "x" or "a"
        Read; write a new store; or go on with one where it is committed, and create it where there
        is none. To capture into it, give the Store as ``storage_path`` or ``disk_path``.
    durability : "process" or "power"
        What commits survive: that the process is killed; or that the power is cut, too. Then files
        and folders are fsynced before a commit is published.
    commit_rows : int, optional
        Commit when so many rows, of all layers together, were captured since the last commit.
    commit_seconds : real number or None
        Commit when so much time has passed. Both wait for the end of a forward pass; ``commit()``
        commits at once.
    compressor : zarr codec, optional
        For the rows, as ``zarr.codecs.ZstdCodec(level=1)``. None by default: see
        docs/store.md.

    chunk_bytes : int, optional
        Bytes of rows in a chunk of a new array, 4 MiB by default. A chunk is one file, which is
        written once it is full.

    A local store has one writer at a time, and any number of readers, which see what was committed
    when they opened it. As ``with Store(...) as store:`` it is closed at the end.

    Raises
    ------
    TypeError, ValueError
        For bad options; where there is no store to read, or something in the way of a new one; for
        a store that is damaged, of another format, or being written already.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate_gpu as ts
    >>> with Store("memory://example", "x") as store:
    ...     point = ts.CapturePoint("layer", store)
    ...     point.declare(neurons=2)
    ...     point.append(np.array([[1], [3], [3]], np.uint8), instances=3)
    >>> Store("memory://example")["layer"].counts()
    array([1, 2])
    """

    __module__ = "tensorstate_gpu"

    def __init__(
        self,
        path: Any,
        mode: str = "r",
        *,
        durability: str = "process",
        commit_rows: int | None = None,
        commit_seconds: float | None = 30.0,
        compressor: Any = None,
        chunk_bytes: int | None = None,
    ) -> None:
        check_choice("mode", mode, MODES)
        check_choice("durability", durability, DURABILITIES)
        options = WriterOptions(compressor, commit_rows, commit_seconds, chunk_bytes)
        self._files = files_at(path, durable=durability == "power")
        self._session: WritingSession | None = None
        if mode == "r":
            with contextlib.suppress(Exception):  # told to whoever wrote it
                finish_closing(self._files)
            self._found = read_record(self._files)
        else:
            self._found = begin(self._files, go_on=mode == "a")
            writer = RunWriter(self._files, self._found, options)
            self._session = WritingSession(self._files, self._found, writer)
            # What is buffered when this object ends still belongs to the capture.
            weakref.finalize(self, writer.life.close_soon).atexit = False

    # ---- what the user reads -------------------------------------------------------------------

    @property
    def record(self) -> Record:
        """What is committed."""
        return self._found if self._session is None else self._session.writer.record

    @property
    def names(self) -> list[str]:
        """The layers, in the model's order."""
        return list(self.record.layers)

    def __getitem__(self, name: str) -> StoredLayer:
        layers = self.record.layers
        if name not in layers:
            raise KeyError(f"{self} has no states of {name!r}; there are {list(layers)}")
        return StoredLayer(self._files, name, layers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.record.layers)

    def __len__(self) -> int:
        return len(self.record.layers)

    @property
    def efficiency_layers(self) -> list[StoredLayer]:
        """The layers, in the model's order, with the measures of a capture point."""
        return [self[name] for name in self]

    def network_efficiency(self) -> float:
        """Geometric mean of the layers' efficiencies."""
        return information.network_efficiency(self)

    def report(self, accuracy: float | None = None, beta: float = 2) -> "Report":
        """The table of measures; see tensorstate_gpu.report."""
        from tensorstate_gpu.reporting import report

        return report(self, accuracy, beta)

    def info(self) -> dict[str, Any]:
        """What is committed, and what its files take in bytes, as plain numbers and strings.

        Nothing but the commit record is read. Bytes are None where files cannot be listed.
        """
        from tensorstate_gpu.store.info import describe

        return describe(self._files, self.record)

    def verify(self, progress: "Progress | None" = None) -> "Verification":
        """Read all that is committed now, and tell what is missing or damaged: everything.

        ``progress`` is called with the chunks done and the chunks in all. ValueError, as at
        opening, where the commit record itself cannot be read.
        """
        from tensorstate_gpu.store.verification import verify

        return verify(self._files, lambda: read_record(self._files), progress)

    def to_zip(
        self,
        path: Any,
        layers: Iterable[str] | None = None,
        *,
        progress: "Progress | None" = None,
    ) -> None:
        """Write the layers, all by default, to a new zip file for zarr.storage.ZipStore.

        ``progress``: as in verify(). KeyError for a layer that is not there; ValueError where there
        is something at the path, or what is committed is damaged: then no file is left.
        """
        from tensorstate_gpu.store.zip_file import of_layers, write_zip

        record = self.record
        if layers is not None:
            record = of_layers(record, [self[name].name for name in layers])
        write_zip(self._files, record, path, progress)

    # ---- writing -------------------------------------------------------------------------------

    @property
    def session(self) -> WritingSession:
        """What capture points write to; ValueError for a store that was opened to be read."""
        if self._session is None:
            raise ValueError(f"{self} was opened to be read; mode='a' or 'x' writes")
        return self._session

    def commit(self) -> None:
        """Publish all that was captured so far; when it returns, it is kept.

        OSError when that fails: what was committed before is whole, and the next call tries again.
        """
        self.session.commit()

    def close(self) -> None:
        """Commit what is left, and let others write. A store that is only read needs no closing."""
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self._session is not None:
            self._session.forget_broken_pass()
        self.close()

    def __str__(self) -> str:
        return str(self._files)

    def __repr__(self) -> str:
        return f"Store({str(self)!r}, {len(self)} layers, {self.record.commits} commits)"
