"""CountsEntry: what a commit record says of a layer that keeps counts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tensorstate_gpu._layers.instance_notes import NOTES
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu.information.group_table import SampledInstances
from tensorstate_gpu.store.array_record import ArrayRecord, validated_count


@dataclasses.dataclass(frozen=True, slots=True)
class RunRecord:
    """What is committed of one sorted run.

    ``numbered``: whether a number of a label and a group is behind each row. ``total``: the sum of
    the counts; ``most``: none is greater. ``arrays``: the rows, their counts, and the first row of
    each chunk.
    """

    number: int
    numbered: bool
    total: int
    most: int
    arrays: Mapping[str, ArrayRecord]

    def to_json(self) -> dict[str, Any]:
        arrays = {name: array.to_json() for name, array in self.arrays.items()}
        return {
            "number": self.number,
            "numbered": self.numbered,
            "total": self.total,
            "most": self.most,
            "arrays": arrays,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "RunRecord":
        arrays = {name: ArrayRecord.from_json(found["arrays"][name]) for name in RUN_ARRAYS}
        return cls(
            validated_count(found["number"]),
            bool(found["numbered"]),
            validated_count(found["total"]),
            validated_count(found["most"]),
            arrays,
        )


RUN_ARRAYS = ("states", "counts", "fences")


@dataclasses.dataclass(frozen=True, slots=True)
class CountsEntry:
    """What is committed of a layer that keeps counts.

    ``labels``: the label of each number behind rows, divided by the number of groups.
    ``noted``: how many instances have labels, and units. ``samples``: the instances by label, if
    counts are kept by group.
    """

    runs: tuple[RunRecord, ...]
    labels: tuple[Label, ...]
    noted: Mapping[str, int]
    samples: Mapping[Label, SampledInstances]

    @property
    def total(self) -> int:
        """The number of rows."""
        return sum(run.total for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": [run.to_json() for run in self.runs],
            "labels": self.labels,
            "noted": dict(self.noted),
            "samples": [
                {"label": label, **dataclasses.asdict(sample)}
                for label, sample in self.samples.items()
            ],
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "CountsEntry":
        return cls(
            tuple(map(RunRecord.from_json, found["runs"])),
            tuple(found["labels"]),
            {what: validated_count(found["noted"][what]) for what in NOTES},
            {sample["label"]: _sample_from_json(sample) for sample in found["samples"]},
        )


def _sample_from_json(found: dict[str, Any]) -> SampledInstances:
    by_group = tuple(map(validated_count, found["by_group"]))
    return SampledInstances(
        by_group, validated_count(found["fingerprint"]), bool(found["has_units"])
    )
