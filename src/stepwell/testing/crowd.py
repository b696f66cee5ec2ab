"""What simulated people do with runs: answer, publish, signal, steer; and what they read of streams."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from stepwell.app import Stepwell
from stepwell.authoring.graph import GraphWorkflow, graph_workflow
from stepwell.errors import RequestNotFound
from stepwell.model.ids import SECOND
from stepwell.model.requests import InputRequest
from stepwell.testing.drawing import Standing, Start, Verb
from stepwell.testing.scenes import DIAL, OTHERS, PEOPLE, RESIDUES
from stepwell.testing.scripts import echo, play
from stepwell.testing.vertices import Graph
from stepwell.testing.virtual import BASE

STRANGER = "zoe"
"""Nobody ever asks her."""

SOURCE = "people"
"""What people's events say that they come from."""


@dataclass(frozen=True)
class Wish:
    """Something wanted of a run, or (publishing) of all. `number` is new each time; `choice` decides among several.

    With `residue` an event's number has that remainder. An `is_sincere` answer agrees and comes from one who may.
    """

    verb: Verb
    run_id: str
    name: str = ""
    number: int = 0
    choice: int = 0
    residue: int | None = None
    is_sincere: bool = False

    @property
    def payload(self) -> int:
        """The number that an event carries."""
        residue = self.choice % RESIDUES if self.residue is None else self.residue
        return self.number * RESIDUES + residue


@dataclass(frozen=True)
class Done:
    """What somebody was told: `name` and `payload` of what was accepted; `note` when it was known before."""

    name: str = ""
    payload: int = 0
    note: str = ""


Deed: TypeAlias = Callable[[Stepwell], Awaitable[Done]]


def deed(wish: Wish) -> Deed:
    """What has to be asked of a `Stepwell` for this wish."""
    match wish.verb:
        case "signal":
            return lambda app: _signal(app, wish)
        case "answer" | "answer twice" | "answer as a stranger":
            return lambda app: _answer(app, wish)
        case "withdraw":
            return lambda app: _withdraw(app, wish)
        case "reassign":
            return lambda app: _reassign(app, wish)
        case "set":
            return lambda app: _set(app, wish)
        case "publish" | "publish again" | "publish in passing":
            return lambda app: _publish(app, wish)
        case _:
            return lambda app: _steer(app, wish)


async def _steer(app: Stepwell, wish: Wish) -> Done:
    verb: Callable[[str], Awaitable[Any]] = getattr(app, wish.verb)  # Any: nothing
    await verb(wish.run_id)
    return Done()


async def _signal(app: Stepwell, wish: Wish) -> Done:
    await app.signal(wish.run_id, wish.name, wish.number)
    return Done(wish.name, wish.number)


async def _set(app: Stepwell, wish: Wish) -> Done:
    await app.set_state(wish.run_id, DIAL, wish.number, by="dan")
    return Done(DIAL, wish.number)


async def _question(app: Stepwell, wish: Wish) -> InputRequest:
    questions = await app.inbox(run=wish.run_id)
    if wish.name:
        questions = [one for one in questions if one.id == wish.name]
    if not questions:
        raise RequestNotFound(f"nobody in {wish.run_id} asks anything")
    return questions[wish.choice % len(questions)]


async def _answer(app: Stepwell, wish: Wish) -> Done:
    question = await _question(app, wish)
    answered = {by for by, _ in question.answers}
    able = question.who or (*PEOPLE, *OTHERS)
    if wish.is_sincere:
        able = tuple(one for one in able if one not in answered) or able
    by = STRANGER if wish.verb == "answer as a stranger" else able[wish.choice // 8 % len(able)]
    vote = {"ok": wish.is_sincere or wish.choice % 4 > 0, "number": wish.number}
    await app.answer(question.id, vote, by=by)
    note = "though nobody asked her" if question.who and by not in question.who else ""
    if wish.verb == "answer twice":
        await app.answer(question.id, vote, by=by)
        note = "twice, by one who had answered"
    return Done(question.id, wish.number, note)


async def _withdraw(app: Stepwell, wish: Wish) -> Done:
    question = await _question(app, wish)
    await app.withdraw(question.id, by="dan", reason="not needed")
    return Done(question.id)


async def _reassign(app: Stepwell, wish: Wish) -> Done:
    question = await _question(app, wish)
    who = (OTHERS, PEOPLE, ())[wish.choice // 8 % 3]
    await app.reassign(question.id, who, by="dan")
    return Done(question.id)


async def _publish(app: Stepwell, wish: Wish) -> Done:
    id = f"e-{wish.number}"
    if wish.verb == "publish again":
        id = f"e-{wish.number - 1 - wish.choice % 4}"
    transient = wish.verb == "publish in passing"
    is_new = await app.publish(wish.name, wish.payload, id=id, source=SOURCE, transient=transient)
    return Done(id, wish.payload, "" if is_new else "known")


async def bring(app: Stepwell, start: Start) -> tuple[Any, tuple[object, ...]]:  # Any: a workflow, or its name
    """See that a run's graph is known where it is to be started; what `start` takes for it.

    One that is given as it is comes into the store with its first run; those of its children are deployed.
    """
    graph = start.graph
    assert graph is not None, "it is a graph that is brought"
    for kid in graph.kids:
        await app.deploy(kid.definition)
    if graph.is_named:
        await app.deploy(graph.definition)
        return graph.name, ({"token": start.token},)
    return compiled(graph), ({"token": start.token},)


@functools.lru_cache(maxsize=32)
def compiled(graph: Graph) -> GraphWorkflow:
    """A drawn graph as a workflow."""
    return graph_workflow(graph.definition)


async def set_up(app: Stepwell, standing: Standing, token: int) -> None:
    """Make a trigger."""
    if standing.topic:
        await app.on(standing.topic, echo, name=standing.name, data=True)
        return
    await app.schedule(
        standing.name,
        play,
        standing.script,
        token,
        every="1s",
        end=datetime.fromtimestamp((BASE + standing.until) / SECOND, UTC),
        catch_up=standing.catch_up,
        grace="1s",
        overlap=standing.overlap,
    )


async def listen(app: Stepwell, run_id: str, heard: Callable[[str, int, int, str], None]) -> None:
    """Read a run's stream to its end."""
    async for chunk in app.stream(run_id):
        heard(chunk.step, chunk.attempt, chunk.number, chunk.value)
