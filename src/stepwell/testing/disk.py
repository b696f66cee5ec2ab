"""What do the store objects of one simulated machine share? The data, the delays, and how bad things are."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol

from stepwell.errors import StepwellError, StoreBusy, StoreFull
from stepwell.stores.memory import MemoryData
from stepwell.testing.virtual import SimLoop, VirtualTime

if TYPE_CHECKING:
    from stepwell.testing.unreliable import UnreliableStore

MILLISECOND = 1000


class Witness(Protocol):
    """Sees every operation that changes the data, in the order of the commits."""

    def committing(self, store: UnreliableStore, name: str, argument: object) -> bool:
        """This is about to commit; False when the witness has killed the store's process, and it does not."""

    def committed(self, store: UnreliableStore, name: str, argument: object, result: object) -> None:
        """This has committed; the process does not know yet, and if it is killed now it never will."""


@dataclass
class Faults:
    """How bad it is. Delays in microseconds, chances from 0 to 1; may be changed at any time.

    With `inline`, `create`, `append` and `post` commit and answer within the call, as the memory store does; otherwise
    they do so with the chance `inline_when_hinted` when the engine sets the store's `inline_commits`. With the chance
    `again` the work of a `transact` is rolled back at its commit and done a second time.
    """

    delay: int = 2 * MILLISECOND
    late: float = 0.0
    latest: int = 2000 * MILLISECOND
    full: float = 0.0
    busy: float = 0.0
    again: float = 0.0
    inline: bool = False
    inline_when_hinted: float = 0.5


@dataclass
class Disk:
    """What all store objects of one simulated machine share."""

    time: VirtualTime
    chance: Random
    witness: Witness
    faults: Faults = field(default_factory=Faults)
    content: MemoryData = field(default_factory=MemoryData)
    loop: SimLoop = field(init=False)

    def __post_init__(self) -> None:
        self.loop = self.time.loop("disk")

    def delay(self) -> int:
        """How long half an operation takes, in microseconds."""
        faults = self.faults
        if faults.late and self.chance.random() < faults.late:
            return self.chance.randrange(faults.latest)
        return 1 + int(self.chance.random() * 2 * faults.delay)

    def refusal(self, writes: bool) -> StepwellError | None:
        """Why an operation fails before its commit; mostly it does not."""
        faults = self.faults
        if writes and faults.full and self.chance.random() < faults.full:
            return StoreFull("no room to write: make room, and it goes on with nothing lost")
        if faults.busy and self.chance.random() < faults.busy:
            return StoreBusy("another process keeps it locked")
        return None
