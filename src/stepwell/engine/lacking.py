"""Which runs go on by themselves when something is there that they lacked? Those set aside for just that reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.reading import read_run
from stepwell.engine.verbs import VerbBody
from stepwell.errors import RequestRefused
from stepwell.model.lifecycle import Status
from stepwell.model.state import State
from stepwell.stores.protocol import Filter, NewMessage, Store

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

_PAGE = 200


def lack_of_workflow(name: str) -> str:
    """How the reason begins for which a run is set aside that starts a workflow which is not there."""
    return f"workflow {name!r}, which node "


def lack_of_types(name: str) -> str:
    """How the reason begins for which a run is set aside whose graph has problems here, such as a type that is gone."""
    return f"graph {name!r} does not compile any more: "


async def let_go_on(
    engine: Engine, begins: Sequence[str], why: str, *, status: tuple[Status, ...] = ("stuck",)
) -> None:
    """Resume the runs that were set aside with a reason that begins so; what a person has paused stays paused.

    Args:
        engine: whose stores are looked into.
        begins: the beginnings of reasons.
        why: what the journal says about the resume.
        status: the statuses that such runs have.
    """
    for store in (engine.store, engine.volatile):
        ids = [id for id, runner in engine.runners.items() if runner.store is store and runner.state.pause is not None]
        page = 0
        while rows := await store.find(Filter(status=status, limit=_PAGE, offset=page * _PAGE)):
            ids += [row.run_id for row in rows]
            page += 1
        for id in dict.fromkeys(ids):
            runner = engine.runners.get(id)
            state = runner.state if runner is not None else (await read_run(store, id))[0]
            if _lacks(state, begins):
                await _resume(engine, store, id, why)


def _lacks(state: State, begins: Sequence[str]) -> bool:
    pause = state.pause
    return pause is not None and pause.cause != "request" and pause.reason.startswith(tuple(begins))


async def _resume(engine: Engine, store: Store, id: str, why: str) -> None:
    body = msgspec.json.encode(VerbBody(why))
    try:
        posted = await store.post(NewMessage(id, "resume", "", body, engine.clock.now(), by=engine.worker))
    except RequestRefused:  # it goes on already, or has ended
        return
    if posted is not None:
        engine.mailboxes.heard(posted)
