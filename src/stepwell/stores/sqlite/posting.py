"""How do messages come into mailboxes? The addressees' rows are looked at first, so that no wake-up is lost."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.errors import RunNotFound, StepwellError
from stepwell.stores.protocol import Message
from stepwell.stores.rules import refusal
from stepwell.stores.sqlite.changes import Posting
from stepwell.stores.sqlite.rows import COLUMNS
from stepwell.stores.sqlite.session import Session

_STATUS = 1 + COLUMNS.index("status")
_OWNER = 1 + COLUMNS.index("owner")


def post(session: Session, postings: Sequence[Posting], *, strict: bool) -> list[Message]:
    """Put messages into mailboxes within the transaction that is open; the ones that were not there before.

    Each posting gets its outcome. One that is refused gets its error when `strict`, and is let go otherwise: a post
    that comes with an append must not stop its sender because the addressee has ended or is gone.
    """
    runs = {row[1]: row for row in session.among("runs_named", list({posting.message.run_id for posting in postings}))}
    before = _posted_before(session, postings, {run_id: row[0] for run_id, row in runs.items()})
    id = last_message(session)
    posted: list[Message] = []
    rows: list[tuple[object, ...]] = []
    wakes: dict[int, int] = {}
    for posting in postings:
        new = posting.message
        row = runs.get(new.run_id)
        identity = (row[0] if row is not None else 0, new.kind, new.name, new.key)
        if new.key and identity in before:
            continue
        if (error := _refusal(session, posting, row)) is not None:
            posting.error = error if strict else None
            continue
        before.add(identity)
        id += 1
        posting.outcome = Message(id, new.run_id, new.kind, new.name, new.body, new.at, new.by)
        posted.append(posting.outcome)
        rows.append((id, *identity, new.body, new.at, new.by))
        if row is not None and row[_OWNER] is None:
            wakes[row[0]] = min(new.at, wakes.get(row[0], new.at))
    if rows:
        session.insert("insert_messages", rows)
    if wakes:
        session.update("wake", list(wakes.items()))
    return posted


def last_message(session: Session) -> int:
    """The id of the last message that was ever posted."""
    row = session.one("last_message")
    assert row is not None
    return int(row[0])


def _posted_before(session: Session, postings: Sequence[Posting], numbers: dict[str, int]) -> set[tuple[object, ...]]:
    keyed = [
        (numbers[new.run_id], new.kind, new.name, new.key)
        for new in (posting.message for posting in postings)
        if new.key and new.run_id in numbers
    ]
    return set(session.matching("posted_before", keyed)) if keyed else set()


def _refusal(session: Session, posting: Posting, row: Sequence[object] | None) -> StepwellError | None:
    run_id = posting.message.run_id
    if row is None:
        return RunNotFound(f"no run {run_id} in {session.path}")
    return refusal(posting.message.kind, run_id, row[_STATUS])  # type: ignore[arg-type]  # a column; only ours are stored
