"""PyTorch: histograms in distributed checkpoints: a blob for each rank, under a key of its own.

torch.distributed.checkpoint keeps one of the entries that have the same key on several ranks, so
that histograms of all others would be lost. A checkpoint may be read by another number of ranks:
each takes some of the blobs, and all of them together have all counts.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

import torch

from tensorstate_gpu._states.state_counts import StateCounts


class SavedCounts(TypedDict):
    """A histogram as tensors: rows uint8 (distinct, bytes), counts int64 (distinct,)."""

    rows: torch.Tensor
    counts: torch.Tensor
    neurons: int


def key_of(rank: int) -> str:
    """Return the key of a rank's blob in a checkpoint."""
    return f"rank_{rank}"


def keys_for(keys: Iterable[str], rank: int, size: int) -> list[str]:
    """Return the keys that one of so many ranks reads, of those of a checkpoint."""
    return sorted(keys)[rank::size]


def blob_of(histograms: Mapping[str, StateCounts]) -> bytes:
    """Return histograms by name as bytes, which torch.load(weights_only=True) reads."""
    saved = {name: _tensors_of(counts) for name, counts in histograms.items()}
    file = io.BytesIO()
    torch.save(saved, file)
    return file.getvalue()


def _tensors_of(counts: StateCounts) -> SavedCounts:
    return {
        "rows": torch.from_numpy(counts.packed.copy()),
        "counts": torch.from_numpy(counts.counts.copy()),
        "neurons": counts.neurons,
    }


def histograms_of(blobs: Sequence[bytes]) -> dict[str, StateCounts]:
    """Return the histograms of all blobs, by name; those of the same name are added up.

    Raises ValueError for blobs that hold no histograms, or others of the same name.
    """
    found: dict[str, StateCounts] = {}
    for blob in blobs:
        saved: dict[str, SavedCounts] = torch.load(io.BytesIO(blob), weights_only=True)
        for name, each in saved.items():
            counts = StateCounts(each["rows"].numpy(), each["counts"].numpy(), each["neurons"])
            found[name] = found[name].merge(counts) if name in found else counts
    return found
