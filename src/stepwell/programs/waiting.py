"""What a workflow body waits for besides steps and child runs: signals, events, people, and the first of several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from stepwell.authoring.context import Question, Selected
from stepwell.errors import ControlFlow, DefinitionError
from stepwell.model import cloudevents
from stepwell.model.codec import ValueCodec
from stepwell.model.commands import StartWait
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import NO_PAYLOAD, WaitKind
from stepwell.model.ids import SECOND, StepPath
from stepwell.model.requests import Answer, EventSpec, InputSpec
from stepwell.programs.asks import Asks, Decoder, Pending
from stepwell.programs.turnloop import TurnLoop

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Waiting:
    """The `authoring.context.WaitingContext` of one run."""

    def __init__(self, loop: TurnLoop, asks: Asks) -> None:
        self._loop = loop
        self._asks = asks

    def signal(self, name: str, hint: object, timeout: Duration | None) -> Coroutine[Any, Any, Any]:  # Any: payload
        """Wait for a signal; the order of the calls decides who gets which."""
        path = self._path(f"signal:{name}")
        within = _within(timeout, f"the timeout of signal {name!r}")
        return self._wait(path, "signal", name, within, NO_PAYLOAD, ValueCodec(hint, f"signal {name!r}"))

    def event(
        self, topic: str, hint: object, where: object, timeout: Duration | None, since: datetime | None
    ) -> Coroutine[Any, Any, Any]:  # Any: a CloudEvent of the hint
        """Wait for an event; the order of the calls decides who gets which."""
        from stepwell.expressions import logic  # loaded when it is wanted, as is the library behind it

        if not topic:
            raise DefinitionError("ctx.event needs the topic of the events that it waits for")
        path = self._path(f"event:{topic}")
        if since is not None and since.tzinfo is None:
            raise DefinitionError(f"ctx.event({topic!r}, since={since}): give a time with a zone")
        from_time = 0 if since is None else round((since - _EPOCH).total_seconds() * SECOND)
        if not isinstance(where, dict | None):  # a constant is JSONLogic too, and true of every event
            raise DefinitionError(f"ctx.event({topic!r}, where={where!r}): give a JSONLogic rule as a dict")
        spec = EventSpec(where=logic.written(where), since=from_time)
        within = _within(timeout, f"the timeout of event {topic!r}")
        return self._wait(path, "event", topic, within, _json(spec), _EventCodec(hint, topic))

    def ask(self, question: Question) -> Coroutine[Any, Any, Any]:  # Any: an answer, or a list of `Answer`
        """Ask people."""
        from stepwell.model.forms import schema_of  # loaded when it is wanted

        path = self._path(f"ask:{question.name}" if question.name else "ask")
        quorum = question.quorum
        if quorum is not None and (isinstance(quorum, bool) or quorum < 1):
            raise DefinitionError(f"ctx.ask(quorum={quorum!r}): give a whole number from 1")
        if quorum is not None and question.who and quorum > len(set(question.who)):
            raise DefinitionError(f"ctx.ask(quorum={quorum}): only {len(set(question.who))} people may answer")
        spec = InputSpec(
            prompt=question.prompt,
            schema=_json(
                schema_of(Any if question.hint is None else question.hint, f"the form of {question.prompt[:60]!r}")
            ),
            who=tuple(dict.fromkeys(question.who)),
            quorum=quorum or 0,
            agree=question.agree,
            reminders=tuple(sorted(micros(one, "ctx.ask(reminders=…)") for one in question.reminders)),
        )
        hint = Any if question.hint is None or isinstance(question.hint, dict) else question.hint
        one = ValueCodec(hint, f"the answer to {question.prompt[:60]!r}")
        codec: Decoder = one if quorum is None else _AnswersCodec(one)
        within = _within(question.timeout, f"the timeout of {question.prompt[:60]!r}")
        return self._wait(path, "input", question.prompt, within, _json(spec), codec)

    def select(self, branches: Mapping[str, Awaitable[Any]]) -> Coroutine[Any, Any, Selected]:  # Any: each its own
        """Wait for the first; withdraw the others."""
        if not branches:
            raise DefinitionError("ctx.select needs at least one branch: ctx.select(done=…, late=ctx.timer('1h'))")
        scope = self._loop.current_scope()
        inner = scope.child("select", scope.occurrence("select"))
        return self._first({name: self._branch(name, one, inner.path) for name, one in branches.items()})

    def _branch(
        self, name: str, awaitable: Awaitable[Any], scope: tuple[tuple[str, int], ...]
    ) -> tuple[asyncio.Future[Any], bool]:  # Any: what the branch gives
        """The branch as a future, and whether it is ours to withdraw."""
        if isinstance(awaitable, asyncio.Future):
            return awaitable, False
        work = awaitable if asyncio.iscoroutine(awaitable) else _awaited(awaitable)
        from stepwell.programs.turnloop import Scope

        return self._loop.create_task(work, name=name, scope=Scope((*scope, (name, 1)))), True

    async def _first(self, branches: dict[str, tuple[asyncio.Future[Any], bool]]) -> Selected:  # Any: as above
        futures = [future for future, _ in branches.values()]
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done = [name for name, (future, _) in branches.items() if future.done()]
            await _withdraw([future for future, is_ours in branches.values() if is_ours and not future.done()])
        return Selected(done[0], await branches[done[0]][0])

    def _path(self, label: str) -> StepPath:
        self._asks.check_open()
        scope = self._loop.current_scope()
        return StepPath(scope.path, label, scope.occurrence(label))

    async def _wait(
        self, path: StepPath, wait: WaitKind, name: str, within: int | None, spec: msgspec.Raw, codec: Decoder
    ) -> object:
        self._asks.check_open()
        future = self._loop.create_future()
        due = None if within is None else round(self._loop.now * SECOND) + within
        path = self._asks.wait(StartWait(path=path, wait=wait, name=name, due=due, spec=spec), Pending(codec, future))
        try:
            return await future
        except (asyncio.CancelledError, ControlFlow):
            self._asks.withdraw(path)
            raise


class _EventCodec:
    """Reads the payload of an event wait: an envelope whose data is of the hint."""

    def __init__(self, hint: object, topic: str) -> None:
        self._data = ValueCodec(hint, f"event {topic!r}")

    def decode(self, data: msgspec.Raw) -> object:
        """The event."""
        body = bytes(data)
        found = cloudevents.read(body)
        return cloudevents.CloudEvent(
            found.id,
            found.source,
            found.type,
            self._data.decode(found.payload),
            found.time,
            found.subject or "",
            cloudevents.extensions(body),
        )


class _RawAnswer(msgspec.Struct):
    value: msgspec.Raw
    by: str
    at: int


class _AnswersCodec:
    """Reads the payload of a question to several people."""

    def __init__(self, one: ValueCodec) -> None:
        self._one = one

    def decode(self, data: msgspec.Raw) -> object:
        """The answers, in order."""
        found = msgspec.json.decode(data, type=list[_RawAnswer])
        return [Answer(self._one.decode(one.value), one.by, one.at) for one in found]


def _within(timeout: Duration | None, place: str) -> int | None:
    return None if timeout is None else micros(timeout, place)


def _json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def _withdraw(losers: list[asyncio.Future[Any]]) -> None:  # Any: what they would have given
    """Cancel them, and wait: one may have something to clear up, or to outlast (a child run that ends in order)."""
    for loser in losers:
        loser.cancel()
    is_cancelled = False
    while not all(loser.done() for loser in losers):
        try:
            await asyncio.wait(losers)
        except asyncio.CancelledError:  # they have been told already
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


async def _awaited(awaitable: Awaitable[Any]) -> object:
    return cast("object", await awaitable)
