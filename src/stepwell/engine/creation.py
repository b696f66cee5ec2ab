"""What does the store take for a run that somebody outside starts? Its row, and the entry that begins its journal."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Literal

import msgspec

from stepwell.errors import DefinitionError
from stepwell.model.codec import content_hash
from stepwell.model.entries import INLINE_LIMIT, NO_PAYLOAD, PAYLOAD_LIMIT, RunCreated
from stepwell.model.ids import run_id
from stepwell.stores.protocol import NewRun


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Under which terms a run is started. Times are moments in microseconds; see `NewRun` for `unique`."""

    id: str
    workflow: str
    version: str
    priority: int = 0
    labels: Mapping[str, str] = {}
    durability: str = "sync"
    by: str = ""
    queue: str = ""
    queue_key: str = ""
    begin_at: int | None = None
    deadline: int | None = None
    trigger: str = ""
    unique: str = ""
    unique_until: Literal["begun", "ended"] = "ended"
    event: msgspec.Raw = NO_PAYLOAD


def new_run(terms: Terms, data: msgspec.Raw, *, now: int, chance: Random) -> NewRun:
    """What the store is given for a run of this input (canonical JSON, as the workflow's codec encodes it).

    Raises:
        ArgumentError: the id is not usable.
        DefinitionError: the input is too large.
    """
    raw = checked(terms.workflow, data)
    digest = content_hash(raw)
    is_large = len(raw) > INLINE_LIMIT
    created = RunCreated(
        at=now,
        run_id=run_id(terms.id),
        workflow=terms.workflow,
        version=terms.version,
        root=terms.id,
        input=NO_PAYLOAD if is_large else data,
        input_blob=digest if is_large else "",
        seed=chance.getrandbits(48),
        priority=terms.priority,
        durability=terms.durability,
        labels=dict(terms.labels),
        by=terms.by,
        queue=terms.queue,
        queue_key=terms.queue_key,
        begin_at=terms.begin_at,
        deadline=terms.deadline,
        trigger=terms.trigger,
        event=terms.event,
    )
    return NewRun(
        run_id=terms.id,
        workflow=terms.workflow,
        version=terms.version,
        root=terms.id,
        parent=None,
        priority=terms.priority,
        labels=created.labels,
        input_hash=digest,
        created_at=now,
        wake_at=now if terms.begin_at is None else terms.begin_at,
        entries=(created,),
        blobs={digest: raw} if is_large else {},
        queue=terms.queue,
        queue_key=terms.queue_key,
        held=bool(terms.queue),
        unique=terms.unique,
        unique_until=terms.unique_until,
    )


def checked(workflow: str, data: msgspec.Raw) -> bytes:
    """The bytes of an input.

    Raises:
        DefinitionError: there are too many.
    """
    raw = bytes(data)
    if len(raw) > PAYLOAD_LIMIT:
        raise DefinitionError(
            f"the input of {workflow} is {len(raw):,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}: pass "
            "the name of a file or object instead"
        )
    return raw


def fresh_id(workflow: str, now: int, chance: Random) -> str:
    """Readable, and ordered by time so that new rows land at the end of the index."""
    return f"{workflow}-{_base32(now // 1000, 9)}{_base32(chance.getrandbits(30), 6)}"


_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
