"""PyTorch: Stage, where packed rows of a layer wait, and to which a CUDA graph can append."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from numpy.typing import NDArray
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.backend_protocol import Backend
from tensorstate_gpu._arrays.dlpack import borrow, plain_torch_tensor
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._arrays.stage_arrays import (
    ACTIVE,
    BATCH_INPUTS,
    BATCH_ROWS,
    BATCHES,
    INPUTS,
    LABELLED,
    LABELS,
    LOST,
    ROWS,
    UNKNOWN,
    StageArrays,
)
from tensorstate_gpu._layers.batches import Batch, Batches, appended, divided, unassigned
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._states.backends import backend_for
from tensorstate_gpu._states.packing import pack
from tensorstate_gpu.errors import NotCapturable

from .appended import Appended
from .placement import Placement, inputs_first, placement_from
from .tensors import is_real_pass, is_recorded

# Held while the host appends a batch, and from drain() to release(): no batch comes in between.
# Replays of CUDA graphs do not ask for it.
APPENDING = ForkSafeLock()


class Staged(NamedTuple):
    """What waits in a stage: rows, whose they are, and the labels of the inputs, if all have one.

    ``lost``: how many rows have found no room.
    """

    rows: torch.Tensor
    batches: Batches
    labels: NDArray[np.int64] | None
    lost: int


class Stage:
    """Rows that wait on their device until drain(), at most ``capacity``.

    The addresses of its memory never change, and nothing about a batch is decided by the host. So
    append() may be recorded by a CUDA graph: each replay appends the rows of its batch. Compiled
    graphs refer to the tensors ``rows``, ``status`` and ``notes``, and to ``placement`` as text,
    which is the same for equal layers and in all processes.
    """

    def __init__(self, capacity: int, placement: Placement, device: torch.device) -> None:
        self.neurons = placement.neurons
        self.placement = placement.as_text()
        self.labels: torch.Tensor | None = None
        self.appended = Appended()
        self._takes_batches = True
        with unset_fake_temporarily(), torch.inference_mode(False):
            width = row_bytes(placement.neurons)
            self.rows = _fixed(capacity, width, dtype=torch.uint8, device=device)
            self.status = _fixed(ACTIVE + 1, dtype=torch.int64, device=device)
            self.notes = _fixed(LABELS + 1, capacity, dtype=torch.int64, device=device)

    def set_active(self, active: bool) -> None:
        """Let batches be appended from now on, or passed over; also those of recorded graphs.

        It takes effect in the order of the current stream. The host does not wait.
        """
        self._takes_batches = active
        self.status[ACTIVE:].fill_(int(active))

    def append(self, tensor: torch.Tensor, time: int = 0) -> None:
        """Append a batch; may be recorded by a CUDA graph. Raises ValueError if it does not fit.

        ``time``: of its pass, if the host appends it.
        """
        given = (tensor, self.rows, self.status, self.notes, self.labels, self.placement)
        if torch.compiler.is_compiling():
            torch.ops.tensorstate_gpu.stage(*given)
        else:
            _append(*given, note=lambda rows: self._note_appended(rows, time))

    def _note_appended(self, rows: int, time: int) -> None:
        """Note what the device is told to append now, as it will decide. Under APPENDING."""
        if self._takes_batches and not is_recorded(self.status):
            self.appended.add(rows, time, len(self.rows))

    def drain(self) -> Staged | None:
        """Return what waits, to be used before release(), all under APPENDING.

        Waits for the device. Returns None if no batch has come. Raises NotCapturable while a CUDA
        graph records the stream.
        """
        self._wait()
        status = self.status.cpu().tolist()
        if not status[BATCHES] and not status[LOST]:
            self.appended = Appended()
            return None
        notes = self.notes[:, : max(status[BATCHES], status[INPUTS])].cpu().numpy()
        batches: list[Batch] = []
        for rows, inputs in notes[[BATCH_ROWS, BATCH_INPUTS], : status[BATCHES]].T.tolist():
            known = inputs != UNKNOWN
            appended(batches, divided(rows, inputs) if known else unassigned(rows, None))
        labelled = status[LABELLED] == status[BATCHES] > 0
        labels = notes[LABELS, : status[INPUTS]].copy() if labelled else None
        return Staged(self.rows[: status[ROWS]], tuple(batches), labels, status[LOST])

    def release(self) -> None:
        """Make room for other rows, after those of drain() were used."""
        self.status[:ACTIVE].fill_(0)
        self.appended = Appended()
        self._wait()  # for whatever stream the next batches come on

    def has_other_batches(self) -> bool:
        """Return whether batches wait that graphs have appended. Waits for the device."""
        self._wait()
        found = self.status.cpu()[[BATCHES, ROWS, LOST]]
        return bool(found.tolist() != self.appended.in_all)

    def take_back(self) -> None:
        """Forget the batches of the last pass. Under APPENDING; waits for the device."""
        self._wait()
        status = self.status.cpu()
        batches, _, lost = self.appended.in_pass
        kept = int(status[BATCHES]) - batches
        notes = self.notes[:, kept : kept + batches].cpu()
        status[LABELLED] = kept if status[LABELLED] == status[BATCHES] else 0
        status[BATCHES] = kept
        status[ROWS] -= notes[BATCH_ROWS].sum()
        status[INPUTS] -= notes[BATCH_INPUTS].clamp(min=0).sum()
        status[LOST] -= lost
        self.appended.take_back()
        self.status.copy_(status)

    def waiting(self) -> int:
        """Return how many rows wait, or have found no room. Waits for the device."""
        status = self.status.cpu().tolist()
        return int(status[ROWS] + status[LOST])

    def _wait(self) -> None:
        if is_recorded(self.status):
            raise NotCapturable("states cannot be read while a CUDA graph is recorded")
        if self.status.is_cuda:
            torch.cuda.synchronize(self.status.device)

    def why_unknown(self, lost: str) -> str | None:
        """Return why it is not known which rows belong to which input; None if it is."""
        if placement_from(self.placement).inputs is not None:
            return None
        return lost or "in a stage, inputs must be along an axis of their own"


def _fixed(*shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor of zeros that compiled graphs use where it is, and do not copy.

    As torch._dynamo.mark_static_address() marks it, which takes seconds to import.
    """
    tensor = torch.empty(*shape, dtype=dtype, device=device).fill_(0)
    tensor._dynamo_static_input_type = "unguarded"  # type: ignore[attr-defined]
    return tensor


# ---- the operator --------------------------------------------------------------------------------

# Without the tag that keeps operators out of CUDA graphs: nothing here is decided by the host.
_library: Any = torch.library.Library("tensorstate_gpu", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "stage(Tensor x, Tensor(a!) rows, Tensor(b!) status, Tensor(c!) notes, Tensor? labels, "
    "str placement) -> ()"
)


def _append(
    x: torch.Tensor,
    rows: torch.Tensor,
    status: torch.Tensor,
    notes: torch.Tensor,
    labels: torch.Tensor | None,
    placement: str,
    note: Callable[[int], None] | None = None,
) -> None:
    """Pack a batch and append it. Called by compiled graphs, and while CUDA graphs are recorded.

    ``note`` is told how many rows it has, under APPENDING; None: by graphs, nothing is noted.
    """
    if not is_real_pass(x) or not x.numel():
        return
    place = placement_from(placement)
    if x.ndim == place.axis == place.ndim - 1:
        x = x.unsqueeze(-1)  # each entry is one state of one neuron
    if (x.ndim, x.shape[place.axis]) != (place.ndim, place.neurons):
        raise ValueError(
            f"a batch has the shape {tuple(x.shape)}; the stage is for {place.ndim} axes, with "
            f"{place.neurons} neurons along axis {place.axis}"
        )
    if x.device != rows.device:
        raise ValueError(f"the stage is on {rows.device}, and a batch on {x.device}")
    inputs = UNKNOWN if place.inputs is None else x.shape[place.inputs]
    view, axis = inputs_first(x, place)
    states = plain_torch_tensor(view) or borrow(view, "states")
    backend = backend_for(states.device)
    with backend.working_on(states, exports=False, recorded=True):
        packed, _ = pack(states, axis, place.threshold)
        stage = StageArrays(
            _native(rows, backend), _native(status, backend), _native(notes, backend)
        )
        fits = labels is not None and labels.device == x.device and len(labels) == inputs
        given = _native(labels, backend) if labels is not None and fits else None
        with APPENDING:
            backend.append_to_stage(packed, inputs, given, stage)
            if note is not None:
                note(len(packed))


def _native(tensor: torch.Tensor, backend: Backend) -> NativeArray:
    if tensor.is_cpu:
        return tensor.numpy()
    return backend.view(plain_torch_tensor(tensor) or borrow(tensor, "stage"))


def checked_labels(labels: object) -> torch.Tensor:
    """Return a tensor of labels. Raises TypeError or ValueError for anything else."""
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64:
        kind = labels.dtype if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise TypeError(f"static labels must be a torch tensor of int64, got {kind}")
    if labels.ndim != 1 or not labels.is_contiguous():
        raise ValueError(f"static labels must be contiguous and 1-D, got {tuple(labels.shape)}")
    return labels


def _stage_fake(x: torch.Tensor, *_: object) -> None:
    """Do nothing: traced calls are not captured."""


_library.impl("stage", _append, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::stage", _stage_fake, lib=_library)
