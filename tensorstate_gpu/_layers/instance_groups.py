"""Groups of instances for standard errors: whole units, each in a group by a hash of its id."""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.states_by_group import StatesByGroup
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.information.group_table import SampledInstances

GROUPS = 32  # by default
MOST_GROUPS = 1024

Hashes = NDArray[np.uint64]
# The counts of each group: in memory, or on disk.
PartsByGroup = Sequence[StateCounts | StoredCounts]


def checked_groups(groups: object) -> int:
    """Return a number of groups. Raises TypeError or ValueError unless it is from 2 to 1,024."""
    number = integer(groups, "groups")
    if not 2 <= number <= MOST_GROUPS:
        raise ValueError(f"groups must be from 2 to {MOST_GROUPS:,}, got {number}")
    return number


def hashes_of(units: NDArray[np.generic]) -> Hashes:
    """Return a hash of each unit: of integers by SplitMix64, of strings by BLAKE2.

    They are the same on every machine. Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators" (2014).
    """
    if units.dtype.kind not in "iu":
        return np.array([_hash_of(unit) for unit in units.tolist()], np.uint64)
    x = units.astype(np.uint64)  # negative ones modulo 2**64
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash_of(unit: object) -> int:
    if isinstance(unit, int):  # among strings
        return int(hashes_of(np.array([unit]))[0])
    digest = hashlib.blake2b(str(unit).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def groups_of(hashes: Hashes, groups: int) -> NDArray[np.int64]:
    """Return the group of each unit, from 0 to groups - 1."""
    return (hashes % np.uint64(groups)).astype(np.int64)


def instance_hashes(first: int, count: int, units: NDArray[np.generic] | None) -> Hashes:
    """Return the hashes of consecutive instances: of their units, or else of their numbers."""
    return hashes_of(np.arange(first, first + count) if units is None else units)


class SampleTallies:
    """Counts the instances of a sample by label and group, in memory for the labels only.

    ``by_label``: the instances of each label so far.
    """

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self.by_label: dict[Label, SampledInstances] = {}

    def add(self, hashes: Hashes, labels: NDArray[np.generic] | None, *, has_units: bool) -> None:
        """Count instances, each with the hash of its unit."""
        self.add_pieces([(hashes, labels)], has_units=has_units)

    def add_pieces(
        self, pieces: Iterable[tuple[Hashes, NDArray[np.generic] | None]], *, has_units: bool
    ) -> None:
        """Count instances in pieces. Each label becomes one sample at the end, not in each piece.

        Adding 100,000 samples piece by piece took longer than counting their rows.
        """
        places: dict[Label, int] = {}
        by_group, sums = np.zeros((0, self._groups), np.int64), np.zeros(0, np.uint64)
        for hashes, labels in pieces:
            # Integers and strings do not sort together.
            every = itertools.repeat(None, len(hashes)) if labels is None else labels.tolist()
            own = np.array([places.setdefault(label, len(places)) for label in every], np.int64)
            keys = own * self._groups + groups_of(hashes, self._groups)
            found = np.bincount(keys, minlength=len(places) * self._groups)
            found = found.reshape(-1, self._groups)
            found[: len(by_group)] += by_group
            totals = np.zeros(len(places), np.uint64)
            totals[: len(sums)] = sums
            np.add.at(totals, own, hashes)  # modulo 2**64, as the sum of several samples
            by_group, sums = found, totals
        for each in zip(places, by_group.tolist(), sums.tolist(), strict=True):
            self._merge(each[0], SampledInstances(tuple(each[1]), each[2], has_units))

    def _merge(self, label: Label, more: SampledInstances) -> None:
        known = self.by_label.get(label)
        self.by_label[label] = more if known is None else known.merge(more)

    def add_all(self, other: "SampleTallies") -> None:
        """Add the instances of another sample, which has the same number of groups."""
        for label, sample in other.by_label.items():
            self._merge(label, sample)

    def copy(self) -> "SampleTallies":
        """Return an independent copy."""
        twin = SampleTallies(self._groups)
        twin.by_label = self.by_label.copy()  # of values that never change
        return twin

    def with_counts(
        self, parts: Mapping[Label, PartsByGroup]
    ) -> dict[Label, GroupedCounts | StoredGroups]:
        """Return the grouped counts of each label, from its histogram of each group."""
        return {label: _grouped(each, self.by_label[label]) for label, each in parts.items()}

    def with_all_counts(self, parts: Mapping[Label, PartsByGroup]) -> GroupedCounts | StoredGroups:
        """Return the grouped counts of all labels together."""
        whole = functools.reduce(SampledInstances.merge, self.by_label.values())
        none = whole.without_instances()  # the first has all of them
        first, *others = parts.values()
        return _grouped(first, whole).merge(*(_grouped(each, none) for each in others))


def _grouped(parts: PartsByGroup, sample: SampledInstances) -> GroupedCounts | StoredGroups:
    if isinstance(parts, StatesByGroup):
        return GroupedCounts.of_sample(parts, sample)
    if stored := [part for part in parts if isinstance(part, StoredCounts)]:
        return StoredGroups(stored, sample)
    return GroupedCounts.of_sample(_of_memory(parts), sample)


def _of_memory(parts: PartsByGroup) -> list[StateCounts]:
    """Return parts of which none is on disk: all are, or none."""
    return [part for part in parts if isinstance(part, StateCounts)]
