"""CountsRecord: what a store of counts contains; Share: which share of a whole its counts are."""

import base64
import dataclasses
from collections.abc import Iterable
from typing import Literal

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.tallies import Tally
from tensorstate_gpu._version import __version__
from tensorstate_gpu.errors import NoStore, UnknownFormat
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.documents import (
    ATTRIBUTE,
    COUNTS_ATTRIBUTE,
    KEY,
    check_document,
    group_attribute,
    group_document,
)

FORMAT = 1
_SHOWN = 10  # numbers of shares in an error


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """Which share of a whole the counts are: a part of its rows, or a range of its states.

    ``number`` is from 0 to ``of`` - 1. ``whole`` says what was divided: shares belong together if
    it is the same text.
    """

    kind: Literal["part", "range"]
    number: int
    of: int
    whole: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number} of {self.of} of {self.whole}"


def check_shares(shares: Iterable[tuple[str, Share | None]]) -> None:
    """Raise ValueError unless all shares of each whole are there, each once.

    ``shares``: with the place of each; None is a whole itself.
    """
    places: dict[Share, str] = {}
    wholes: dict[Share, set[int]] = {}
    for place, share in shares:
        if share is None:
            continue
        if share in places:
            raise ValueError(f"{share} is given twice: {places[share]} and {place}")
        places[share] = place
        wholes.setdefault(dataclasses.replace(share, number=0), set()).add(share.number)
    for share, numbers in wholes.items():
        if missing := sorted({*range(share.of)} - numbers):
            raise ValueError(f"{share.whole}: {_listed(share, missing)} missing")


def _listed(share: Share, missing: list[int]) -> str:
    if len(missing) == 1:
        return f"{share.kind} {missing[0]} of {share.of} is"
    more = ", ..." if len(missing) > _SHOWN else ""
    return f"{share.kind}s {', '.join(map(str, missing[:_SHOWN]))}{more} of {share.of} are"


@dataclasses.dataclass(frozen=True, slots=True)
class CountsRecord:
    """What a store of counts contains.

    ``most``: no count is greater. ``share``: of what the counts are a share; None for a whole.
    ``identity``: another one for each store that was written, by which a copy is found; None if a
    version wrote it that gave none.
    """

    neurons: int
    most: int
    tally: Tally
    arrays: dict[str, ArrayRecord]
    share: Share | None = None
    identity: str | None = None

    @property
    def checksum(self) -> str:
        """A checksum of all states, and of how many occurred how often."""
        states = np.array(self.arrays["states"].checksums, "<u4")
        parts = (states, *(part.astype("<i8") for part in self.tally.arrays()))
        return f"{google_crc32c.value(b''.join(part.tobytes() for part in parts)):08x}"

    def to_bytes(self) -> bytes:
        occurrences, states = (_encoded(part) for part in self.tally.arrays())
        about = {
            "format": FORMAT,
            "version": __version__,
            "neurons": self.neurons,
            "most": self.most,
            "occurrences": occurrences,
            "states_by_occurrence": states,
            "arrays": {name: array.to_json() for name, array in self.arrays.items()},
            **({} if self.share is None else {"share": dataclasses.asdict(self.share)}),
            **({} if self.identity is None else {"identity": self.identity}),
        }
        return group_document({COUNTS_ATTRIBUTE: about})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "CountsRecord":
        """Parse a record. Raises ValueError if it is none, of another format, or damaged."""
        about = group_attribute(data, COUNTS_ATTRIBUTE, where)
        if about is None:
            told = (
                ": it holds captured states, which Store() reads; open_stores(), report and export "
                "read several as one"
            )
            is_run = f'"{ATTRIBUTE}"'.encode() in data
            raise NoStore(f"{where} holds no counts{told if is_run else ''}")
        if about.get("format") != FORMAT:
            raise UnknownFormat(
                f"{where} has counts of format {about.get('format')}, this version reads {FORMAT}; "
                f"they were written by tensorstate_gpu {about.get('version')}"
            )
        check_document(data, f"{where}/{KEY}")
        tally = Tally.of(_decoded(about["occurrences"]), _decoded(about["states_by_occurrence"]))
        arrays = {name: ArrayRecord.from_json(each) for name, each in about["arrays"].items()}
        share = Share(**about["share"]) if "share" in about else None
        identity = about.get("identity")
        return cls(about["neurons"], about["most"], tally, arrays, share, identity)


def _encoded(numbers: NDArray[np.int64]) -> str:
    return base64.b64encode(numbers.astype("<i8").tobytes()).decode()


def _decoded(text: str) -> NDArray[np.int64]:
    return np.frombuffer(base64.b64decode(text), "<i8").astype(np.int64)
