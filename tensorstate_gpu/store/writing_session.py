"""What captures into a store: which layers are claimed, and by whom their rows are taken."""

from typing import Any

from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.layer_writer import LayerWriter
from tensorstate_gpu.store.opened_record import check_same
from tensorstate_gpu.store.record import KEY, Layer, Record
from tensorstate_gpu.store.run_writer import RunWriter, Source


class WritingSession:
    """A store from its opening to its closing, as capture points see it.

    ``found``: what was committed when it was opened. ``of_path``: it was opened for the capture
    points of a path, and not by the user.
    """

    def __init__(self, files: Files, found: Record, writer: RunWriter) -> None:
        self._files, self._found, self.writer = files, found, writer
        self.of_path = False
        self._claimed: set[str] = set()
        self._lock = ForkSafeLock()

    def claim(self, name: str, capture: dict[str, Any], source: Source) -> Layer | None:
        """Reserve a layer's name for a capture point; what is committed of it already.

        ValueError when the name is taken, or does not fit what is committed.
        """
        self.writer.life.check_open()
        with self._lock:
            if name in self._claimed:
                raise ValueError(f"{self._files} already has states of {name!r}")
            if self._found.layers and name not in self._found.layers:
                raise ValueError(
                    f"{self._files} holds the layers {list(self._found.layers)}, and not {name!r}"
                )
            found = self.writer.record.layers.get(name)
            if found is not None:
                check_same(f"{self._files}: {name}", capture, found.capture)
            self._claimed.add(name)
            self.writer.claim(name, source)
            return found

    def check_all_claimed(self) -> None:
        """ValueError when layers are committed that nobody goes on with."""
        if missing := [name for name in self._found.layers if name not in self._claimed]:
            raise ValueError(f"{self._files} holds {missing} too, which are not captured now")

    def layer(
        self, name: str, neurons: int, capture: dict[str, Any], found: Layer | None = None
    ) -> LayerWriter:
        """What takes the rows of a claimed layer."""
        return self.writer.layer(name, neurons, capture, found)

    def before_batch(self, name: str) -> None:
        """Wait for room, commit when it is time; raises what went wrong in the background."""
        self.writer.before_batch(name)

    def remove(self, name: str) -> None:
        """Delete a layer's states, and free its name."""
        self._claimed.discard(name)
        self.writer.remove(name)

    def give_up(self, name: str) -> None:
        """Free a name that nothing was captured for; a new store without names goes too."""
        self._claimed.discard(name)
        if not self._claimed and not self._found.layers and self.of_path:
            self.writer.life.abandon()
            self._files.delete(KEY)

    def forget_broken_pass(self) -> None:
        """Forget the batches of a forward pass that an exception ended: some layers lack theirs."""
        self.writer.forget_broken_pass()

    def flush(self) -> None:
        """Commit, where this process can still write; StoreClosed when rows are lost."""
        self.writer.flush()

    def commit(self) -> None:
        """As Store.commit()."""
        self.writer.life.check_open()
        self.writer.settle()
        self.writer.commit_here()

    def close(self) -> None:
        """As Store.close()."""
        self.writer.settle()
        self.writer.life.close()

    def undo(self) -> None:
        """Delete all that was written into a new store."""
        self.writer.life.abandon()
        for key in [*self._files.sizes(), KEY]:
            self._files.delete(key)
