"""How does a transactional task write to this file? In the writer's transaction, within a savepoint of its own.

What the task raises rolls back to the savepoint, so that others in the same group commit are not harmed; trouble with
the file goes to the committer, like that of any other change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwell.errors import Fenced
from stepwell.stores.guarded import call_guarded
from stepwell.stores.protocol import Message, NewMessage
from stepwell.stores.sqlite.changes import Call
from stepwell.stores.sqlite.group import Group
from stepwell.stores.sqlite.rows import message as message_row
from stepwell.stores.sqlite.trouble import is_of_the_file


def transact(
    group: Group,
    change: Call,
    run_id: str,
    epoch: int,
    work: Callable[[Any], NewMessage],  # Any: a sqlite3.Connection, guarded
) -> Message | None:
    """Let `work` write, and post the message that it returns; what it raises becomes the error of `change`."""
    session, worker = group.session, group.holdings.worker
    group.require_driving(worker)
    if session.one("run_fence", (run_id,)) != (epoch, worker):
        raise Fenced(f"run {run_id} is not owned under epoch {epoch}: nothing was done for it; drop the run")
    connection = session.connection
    before = connection.total_changes
    connection.execute("SAVEPOINT stepwell_work")
    try:
        posted = _post(group, call_guarded(connection, run_id, work))
    except Exception as error:
        if not connection.in_transaction or is_of_the_file(error):
            raise
        connection.execute("ROLLBACK TO stepwell_work")
        connection.execute("RELEASE stepwell_work")
        change.error = error
        return None
    connection.execute("RELEASE stepwell_work")
    group.rows_written += connection.total_changes - before
    return posted


def _post(group: Group, message: NewMessage) -> Message:
    session = group.session
    identity = (message.run_id, message.kind, message.name, message.key)
    known = session.one("message_posted", identity) if message.key else None
    if known is not None:  # it was done before
        session.connection.execute("ROLLBACK TO stepwell_work")
        return message_row(known)
    return group.post(message)
