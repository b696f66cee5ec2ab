"""How do messages come into mailboxes? The addressees' rows are looked at first, so that no wake-up is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwell.errors import RunNotFound, StepwellError
from stepwell.stores.protocol import Message, NewMessage
from stepwell.stores.rules import ABOUT_A_WAIT, earliest, no_such_wait, refusal
from stepwell.stores.sqlite import waits
from stepwell.stores.sqlite.changes import Posting
from stepwell.stores.sqlite.rows import COLUMNS
from stepwell.stores.sqlite.session import Session

_STATUS = 1 + COLUMNS.index("status")
_OWNER = 1 + COLUMNS.index("owner")
_WAKE_AT = 1 + COLUMNS.index("wake_at")
_HELD_UNTIL = 1 + COLUMNS.index("held_until")


def post(session: Session, postings: Sequence[Posting], *, strict: bool) -> list[Message]:
    """Put messages into mailboxes within the transaction that is open; the ones that were not there before.

    Each posting gets its outcome. One that is refused gets its error when `strict`, and is let go otherwise: a post
    that comes with an append must not stop its sender because the addressee has ended or is gone.
    """
    runs = {row[1]: row for row in session.among("runs_named", list({posting.message.run_id for posting in postings}))}
    before = _posted_before(session, postings, {run_id: row[0] for run_id, row in runs.items()})
    open_waits = waits.owners(session, [p.message.name for p in postings if p.message.kind in ABOUT_A_WAIT])
    id = last_message(session)
    posted: list[Message] = []
    rows: list[tuple[object, ...]] = []
    alarms = _Alarms()
    for posting in postings:
        new = posting.message
        row = runs.get(new.run_id)
        identity = (row[0] if row is not None else 0, new.kind, new.name, new.key)
        if new.key and identity in before:
            continue
        if (error := _refusal(session, posting, row, open_waits, posted)) is not None:
            posting.error = error if strict else None
            continue
        before.add(identity)
        id += 1
        posting.outcome = Message(id, new.run_id, new.kind, new.name, new.body, new.at, new.by)
        posted.append(posting.outcome)
        rows.append((id, *identity, new.body, new.at, new.by))
        if row is not None and row[_OWNER] is None:
            alarms.note(row, new)
    if rows:
        session.insert("insert_messages", rows)
    alarms.set(session)
    return posted


class _Alarms:
    """When the addressees want to be driven after these messages."""

    def __init__(self) -> None:
        self._wakes: dict[int, int] = {}
        self._put_off: dict[int, tuple[int | None, int | None]] = {}

    def note(self, row: Sequence[Any], new: NewMessage) -> None:  # columns as SQLite hands them over
        """An unowned run gets a message; those of one run are noted in order."""
        number = row[0]
        put_off = self._put_off.get(number)
        held_until = row[_HELD_UNTIL] if put_off is None else put_off[1]
        if new.kind == "input" and new.wake_at is not None:
            wake_at = self._wakes.pop(number, row[_WAKE_AT])
            self._put_off[number] = (new.wake_at, None) if held_until is None else (wake_at, new.wake_at)
        elif held_until is not None and new.kind != "cancel":
            pass  # its queue holds it
        elif put_off is not None:
            self._put_off[number] = (earliest(put_off[0], new.at), held_until)
        else:
            self._wakes[number] = min(new.at, self._wakes.get(number, new.at))

    def set(self, session: Session) -> None:
        """Write it to the rows."""
        if self._wakes:
            session.update("wake", list(self._wakes.items()))
        if self._put_off:
            session.update("put_off", [(number, *times) for number, times in self._put_off.items()])


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


def _refusal(
    session: Session,
    posting: Posting,
    row: Sequence[Any] | None,
    open_waits: dict[str, int],
    posted: Sequence[Message],
) -> StepwellError | None:
    message = posting.message
    if row is None:
        return RunNotFound(f"no run {message.run_id} in {session.path}")
    pausing = message.kind == "resume" and _is_pausing(session, message.run_id, posted)
    error = refusal(message.kind, message.run_id, row[_STATUS], owned=row[_OWNER] is not None, pausing=pausing)
    if error is None and message.kind in ABOUT_A_WAIT and open_waits.get(message.name) != row[0]:
        return no_such_wait(message)
    return error


def _is_pausing(session: Session, run_id: str, posted: Sequence[Message]) -> bool:
    """Whether a pause waits in a run's mailbox, or is being put there."""
    if any(message.run_id == run_id and message.kind == "pause" for message in posted):
        return True
    return any(row[2] == "pause" for row in session.all("open_messages", (run_id,)))
