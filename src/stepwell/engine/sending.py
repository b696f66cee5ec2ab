"""What a program says to others, and of itself: events, signals and facts, with the next commit."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import msgspec

from stepwell.model import cloudevents
from stepwell.model.commands import RecordFact, RecordValue
from stepwell.model.entries import NULL, NodePassed
from stepwell.model.lifecycle import TERMINAL
from stepwell.programs.protocol import PublishEvent, SendSignal
from stepwell.stores.protocol import NewMessage
from stepwell.stores.tables import NewEvent

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

_log = logging.getLogger("stepwell.engine")


def publish(runner: Runner, request: PublishEvent) -> None:
    """Publish an event; that it was is recorded."""
    id = f"{runner.run_id}:{request.path}"
    source = f"stepwell/runs/{runner.run_id}"
    body = cloudevents.envelope(
        request.topic, request.data, id=id, source=source, at=runner.now, subject=request.subject
    )
    runner.apply(RecordValue(path=request.path, value="publish", payload=msgspec.Raw(msgspec.json.encode(id))))
    runner.publish(NewEvent(request.topic, source, id, body, runner.now, request.transient))


def signal(runner: Runner, request: SendSignal) -> None:
    """Send a signal to other runs; that it was is recorded."""
    payload = msgspec.Raw(msgspec.json.encode(request.runs))
    runner.apply(RecordValue(path=request.path, value="signal", payload=payload))
    key, body = f"{runner.run_id}:{request.path}", bytes(request.payload)
    for run in request.runs:
        message = NewMessage(run, "signal", request.name, body, runner.now, key=key, by=runner.run_id)
        runner.ledger.beside.posts.append(message)
    runner.engine.chore(_look_for(runner, request))


async def _look_for(runner: Runner, request: SendSignal) -> None:
    """Say in the log which runs a signal cannot reach."""
    for run in request.runs:
        row = await runner.engine.insist(functools.partial(runner.store.get, run))
        if row is None or row.status in TERMINAL:
            what = "there is no such run" if row is None else f"it is {row.status}"
            _log.warning("run %s: signal %r to run %s reaches nobody: %s", runner.run_id, request.name, run, what)


def record(runner: Runner, request: RecordFact) -> None:
    """Journal a fact of a graph; an output that is large is kept beside the journal."""
    fact = request.fact
    if isinstance(fact, NodePassed):
        _, blob = runner.ledger.stow(fact.output)
        if blob:
            request = RecordFact(msgspec.structs.replace(fact, output=NULL, output_blob=blob))
    runner.apply(request)
