"""Which events fit a wait of a simulated run? Worked out by hand, from what its script may ask for."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stepwell.model.entries import WaitStarted
from stepwell.model.requests import read_event_spec
from stepwell.stores.tables import Event
from stepwell.testing.scenes import RESIDUES, rule


@dataclass(frozen=True)
class Filter:
    """A topic, a remainder (None: any), and since when events count."""

    subscription: str
    topic: str
    residue: int | None
    since: int

    @classmethod
    def of(cls, wait: WaitStarted, created_at: int) -> Filter:
        """The filter of an event wait of a run that was created at this time."""
        spec = read_event_spec(wait.spec)
        where = msgspec.json.decode(spec.where)
        residue = next(each for each in (None, *range(RESIDUES)) if rule(each) == where)
        return cls(spec.subscription(wait.name), wait.name, residue, spec.since or created_at)

    def fits(self, event: Event) -> bool:
        """Whether the event is one of those that the wait is for, but for transience."""
        if event.topic != self.topic or event.at < self.since:
            return False
        return self.residue is None or msgspec.json.decode(event.body)["data"] % RESIDUES == self.residue
