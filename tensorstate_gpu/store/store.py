"""Store: the packed states of one run, on disk or in an object store."""

import contextlib
import copy
import os
import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

from tensorstate_gpu._arguments import choice, listed
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.store.closing_at_exit import wait_for_closing_writers
from tensorstate_gpu.store.commit_record import Record
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.info import describe
from tensorstate_gpu.store.opened_record import claimed, read_record
from tensorstate_gpu.store.options import WriterOptions
from tensorstate_gpu.store.run_writer import RunWriter
from tensorstate_gpu.store.stored_layer import StoredLayer
from tensorstate_gpu.store.stored_run import StoredRun
from tensorstate_gpu.store.tensorstate_import import import_layers, old_layers
from tensorstate_gpu.store.verification import Verification, verify
from tensorstate_gpu.store.writing_session import WritingSession
from tensorstate_gpu.store.zip_file import select_layers, write_zip

Mode = Literal["r", "x", "a"]
Durability = Literal["process", "power"]
MODES = ("r", "x", "a")
DURABILITIES = ("process", "power")


class Store(StoredRun[StoredLayer]):
    """The packed states of one run, on disk or in an object store.

    A Store opened with mode "r" shows what was committed when it was opened. A local store allows
    one writer at a time and any number of readers. Use ``with Store(...) as store:`` to close it at
    the end of the block. Copies and pickles of a Store only read, and show the last commit at the
    time of the copy.

    Parameters
    ----------
    path : str, path or obstore store
        A local folder, ``memory://name``, or the URL of an object store such as
        ``s3://bucket/run.zarr`` (needs obstore).
    mode : "r", "x" or "a"
        "r" reads a store. "x" creates a new one. "a" resumes from the last commit, or creates the
        store if there is none. To capture into a store, pass it as ``storage_path`` or
        ``disk_path``.
    durability : "process" or "power"
        What a commit survives: the end of the process ("process"), or also a power cut ("power").
        With "power", files and folders are fsynced before a commit is published.
    commit_rows : int, optional
        Commit after this many rows, counted over all layers.
    commit_seconds : real number or None
        Commit after this many seconds. Both kinds of automatic commit happen between two forward
        passes; ``commit()`` commits immediately.
    compressor : zarr codec, optional
        Compresses the rows, for example ``zarr.codecs.ZstdCodec(level=1)``. By default rows are not
        compressed (docs/store.md gives the reasons).
    chunk_bytes : int, optional
        Size of a full chunk of rows in a new array, in bytes; 4 MiB by default. Each chunk is one
        file, which is written when the chunk is full.
    progress : callable, optional
        Is called by the threads that write layers with keep="counts", also by those of automatic
        commits and of close(): with the states that a commit has written so far, and all of them.
        A commit that merges large runs takes long. If it raises an error, the commit fails. As the
        other options of writing, it is checked and not used with mode "r".

    Raises
    ------
    TypeError, ValueError
        An option is invalid, there is no store to read, a file or folder blocks the path of a new
        store, or the store is damaged, has another format, or is open in another writer.

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
    _listed = "close commit from_tensorstate rewind to_zip"

    def __init__(
        self,
        path: Any,
        mode: Mode = "r",
        *,
        durability: Durability = "process",
        commit_rows: int | None = None,
        commit_seconds: float | None = 30.0,
        compressor: Any = None,
        chunk_bytes: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        choice(mode, "mode", MODES)
        choice(durability, "durability", DURABILITIES)
        options = WriterOptions(compressor, commit_rows, commit_seconds, chunk_bytes, progress)
        self._files = files_at(path, durable=durability == "power")
        self._session: WritingSession | None = None
        if mode == "r":
            with contextlib.suppress(Exception):  # the code that wrote the store gets this error
                wait_for_closing_writers(self._files)
            self._opened_record = read_record(self._files)
        else:
            begin = partial(self._begin_writing, options)
            self._session = claimed(self._files, resume=mode == "a", begin=begin)

    def _begin_writing(
        self, options: WriterOptions, record: Record, was_closed: bool | None
    ) -> WritingSession:
        self._opened_record = record
        writer = RunWriter(self._files, record, was_closed, options)
        try:
            # Rows that are still buffered when this object is collected must be committed.
            weakref.finalize(self, writer.life.close_in_background).atexit = False
            return WritingSession(self._files, record, writer)
        except BaseException:
            writer.life.stop()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": copy.copy(self._files), "_opened_record": self.record, "_session": None}

    @classmethod
    def from_tensorstate(
        cls,
        path: str | os.PathLike[str],
        to: Any,
        *,
        rows: int | Mapping[str, int],
        neurons: int | Mapping[str, int],
        instances: int | None = None,
    ) -> "Store":
        """Copy what TensorState has written to a new store, and open that.

        Parameters
        ----------
        path : str or path
            What was given to TensorState as ``storage_path`` or ``disk_path``.
        to : str, path or obstore store
            Where the new store is written.
        rows, neurons : int, or a dict by layer
            How many states and how many neurons each layer has: ``state_count`` and
            ``max_entropy()`` there. The files do not say.
        instances : int, optional
            How many inputs the model was given. Without it, results of single inputs are not known.

        Raises
        ------
        TypeError, ValueError
            ``to`` exists, or numbers do not fit the files: too few rows, or bits of no neuron.
        """
        layers = old_layers(path, rows, neurons)
        store = cls(to, "x", commit_seconds=None)
        try:
            import_layers(store.session, layers, instances)
            store.close()
        except BaseException:
            store.session.delete_new_store()
            raise
        return cls(to)

    # ---- reading -------------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        """The last commit record."""
        return self._opened_record if self._session is None else self._session.writer.record

    @property
    def closed(self) -> bool | None:
        """Whether the last writer has ended properly: by close(), or at the end of its block.

        False while it is at work, and for good if it was killed, or if an exception has ended its
        block, or the program without close(): the store then has what was committed. A writer that
        has added nothing leaves it as it was. None if a version wrote the store that did not say.
        """
        return self.record.closed

    @property
    def names(self) -> list[str]:
        """Names of the layers, in the model's order."""
        return list(self.record.layers)

    def __getitem__(self, name: str | int) -> StoredLayer:
        layers = self.record.layers
        if not isinstance(name, str) or name not in layers:
            others = {
                each: layer.facts.other_names if layer else () for each, layer in layers.items()
            }
            name = find_name(others, name, of=str(self))
        return StoredLayer(self._files, name, layers[name])

    def info(self) -> dict[str, Any]:
        """Return what is committed, and the size of its files, as plain numbers and strings.

        Only the commit record is read. Sizes are None if the storage cannot list its files.
        """
        return describe(self._files, self.record)

    def verify(self, progress: ProgressCallback | None = None) -> Verification:
        """Read and check everything that is committed, and report all problems at once.

        ``progress`` is called with the number of chunks checked and the total number of chunks.
        Raises ValueError if the commit record itself cannot be read.
        """
        return verify(self._files, lambda: read_record(self._files), progress)

    def to_zip(
        self,
        path: Any,
        layers: str | Iterable[str] | None = None,
        *,
        progress: ProgressCallback | None = None,
    ) -> None:
        """Write layers (names; by default all) to a new zip file that zarr.storage.ZipStore reads.

        ``progress`` is called as in verify(). Raises KeyError for an unknown layer, and ValueError
        if the path exists or committed data is damaged. No file is left after an error.
        """
        record = self.record
        if layers is not None:
            names = [layers] if isinstance(layers, str) else listed(layers, "layers", "names")
            record = select_layers(record, [self[name].name for name in names])
        write_zip(self._files, record, path, progress)

    # ---- writing -------------------------------------------------------------------------------

    @property
    def session(self) -> WritingSession:
        """The interface that capture points write to. Raises ValueError if the mode is "r"."""
        if self._session is None:
            raise ValueError(f"{self} was opened to be read; mode='a' or 'x' writes")
        return self._session

    def commit(self) -> None:
        """Publish everything captured so far. It is stored when this returns.

        Raises an OSError if that fails: earlier commits stay intact, and the next call tries again.
        """
        self.session.commit()

    def rewind(self, instances: int | Mapping[str, int]) -> None:
        """Forget all inputs after the first ``instances``, for good, and commit that.

        A program that goes on from a checkpoint captures the inputs after it a second time. Rewind
        the store to those that the checkpoint has seen: ``run.instance_count`` when it was saved,
        after a commit(). Between two forward passes; capture points, if there are any, follow. A
        kill leaves the store as it was, or rewound.

        Parameters
        ----------
        instances : int, or a dict by layer
            How many inputs to keep. If layers ran in some passes only, a dict with the
            ``instance_count`` of each layer.

        Raises
        ------
        TypeError, ValueError
            A layer has fewer inputs, or the number would divide inputs whose states cannot be told
            apart.
        OSError
            Writing failed. The store is as it was, but for what commit() does.
        """
        self.session.rewind(instances)

    def close(self) -> None:
        """Commit the remaining data and release the lock. Not needed with mode "r".

        The record then says that the run has ended: see `closed`.
        """
        if self._session is not None:
            self._session.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if self._session is None:
            return
        # An error of the writer that goes up already is not told again, if it is still there.
        is_told = isinstance(error, OSError) and self._session.writer.has_failed_with(error)
        with contextlib.suppress(OSError) if is_told else contextlib.nullcontext():
            if kind is not None:
                self._session.discard_broken_pass()
            self._session.close(finished=kind is None)

    @property
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""
        record = self.record
        return {
            "store": str(self),
            "begun": record.started,
            "committed": record.committed or "never",
            "commits": f"{record.commits:,}",
        }

    def __str__(self) -> str:
        return str(self._files)

    def __repr__(self) -> str:
        layers, commits = with_noun(len(self), "layer"), with_noun(self.record.commits, "commit")
        return f"Store({str(self)!r}, {layers}, {commits})"
