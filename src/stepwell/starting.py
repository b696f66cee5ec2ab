"""A new run, as the store takes it: its id, its first entry, its row."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from stepwell.authoring.workflow import Workflow
from stepwell.errors import DefinitionError
from stepwell.model.codec import content_hash
from stepwell.model.entries import INLINE_LIMIT, NO_PAYLOAD, PAYLOAD_LIMIT, RunCreated
from stepwell.model.ids import run_id
from stepwell.stores.protocol import NewRun


def new_run(
    workflow: Workflow[..., Any],  # Any: whatever it returns
    data: msgspec.Raw,
    id: str | None,
    priority: int,
    labels: Mapping[str, str] | None,
    durability: str,
    by: str,
    now: int,
    chance: Random,
) -> NewRun:
    """What the store is given for a run that begins at `now`.

    Raises:
        ArgumentError: the id is not usable.
        DefinitionError: the input is too large.
    """
    raw = bytes(data)
    if len(raw) > PAYLOAD_LIMIT:
        raise DefinitionError(
            f"the input of {workflow.name} is {len(raw):,} bytes of JSON; the limit is {PAYLOAD_LIMIT:,}: pass "
            "the name of a file or object instead"
        )
    digest = content_hash(raw)
    name = run_id(id) if id is not None else run_id(_fresh_id(workflow.name, now, chance))
    is_large = len(raw) > INLINE_LIMIT
    created = RunCreated(
        at=now,
        run_id=name,
        workflow=workflow.name,
        version=workflow.version,
        root=name,
        input=NO_PAYLOAD if is_large else data,
        input_blob=digest if is_large else "",
        seed=chance.getrandbits(48),
        priority=priority,
        durability=durability,
        labels=dict(labels or {}),
        by=by,
    )
    return NewRun(
        run_id=name,
        workflow=workflow.name,
        version=workflow.version,
        root=name,
        parent=None,
        priority=priority,
        labels=dict(labels or {}),
        input_hash=digest,
        created_at=now,
        wake_at=now,
        entries=(created,),
        blobs={digest: raw} if is_large else {},
    )


def _fresh_id(workflow: str, now: int, chance: Random) -> str:
    """Readable, and ordered by time so that new rows land at the end of the index."""
    return f"{workflow}-{_base32(now // 1000, 9)}{_base32(chance.getrandbits(30), 6)}"


_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def _base32(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
