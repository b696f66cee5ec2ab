"""How do triggers stand in this file, and move on? A cursor is moved from where it was seen, so one process fires."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.stores.protocol import NewRun
from stepwell.stores.sqlite.changes import Creation
from stepwell.stores.sqlite.group import Group
from stepwell.stores.sqlite.session import Row, Session
from stepwell.stores.tables import Firing, TriggerRow


def put(group: Group, trigger: TriggerRow) -> None:
    """Make a trigger, or replace one of its name."""
    session = group.session
    session.run("put_trigger", (
        trigger.name, trigger.kind, trigger.workflow, trigger.spec, trigger.input, trigger.options,
        int(trigger.paused), trigger.cursor, trigger.next_at, trigger.created_at, trigger.updated_at, trigger.by,
    ))  # fmt: skip
    group.prove(("trigger", (trigger.name,), session.one("trigger", (trigger.name,))), sure=False)


def read(session: Session) -> list[TriggerRow]:
    """All triggers, by name."""
    return [_trigger(row) for row in session.all("triggers")]


def remove(group: Group, name: str) -> bool:
    """Delete a trigger and its firings; whether there was one."""
    removed = group.session.run("remove_trigger", (name,)) == 1
    group.rows_written += group.session.run("remove_firings", (name,))
    group.prove(("trigger_exists", (name,), None), sure=removed)
    return removed


def advance(
    group: Group,
    name: str,
    *,
    seen: int,
    cursor: int,
    next_at: int | None,
    firings: Sequence[Firing],
    runs: Sequence[NewRun],
) -> bool:
    """Move the cursor on, record firings and create their runs; False when the cursor is not where it was seen."""
    session = group.session
    if not session.run("move_trigger", (cursor, next_at, name, seen)):
        return False
    group.at("rows")
    group.prove(("trigger_position", (name,), (cursor, next_at)))
    if firings:
        session.insert("insert_firings", [
            (name, firing.key, firing.occasion, firing.at, firing.run_id, firing.note) for firing in firings
        ])  # fmt: skip
        group.rows_written += len(firings)
    if runs:
        group.create([Creation(run, None) for run in runs])
    return True


def firings(session: Session, name: str, *, limit: int) -> list[Firing]:
    """A trigger's firings, newest first."""
    return [Firing(*row) for row in session.all("firings", (name, max(0, limit)))]


def _trigger(row: Row) -> TriggerRow:
    name, kind, workflow, spec, input, options, paused, cursor, next_at, created_at, updated_at, by = row
    return TriggerRow(
        name=name,
        kind=kind,
        workflow=workflow,
        spec=spec,
        input=input,
        options=options,
        paused=bool(paused),
        cursor=cursor,
        next_at=next_at,
        created_at=created_at,
        updated_at=updated_at,
        by=by,
    )
