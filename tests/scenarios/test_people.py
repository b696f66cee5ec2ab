"""People in the middle of runs: asked once, answered by those who may, each answer counted once, across restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from byhand import HOUR, MINUTE, HandClock
from patience import until

from stepwell import Answer, Stepwell, ctx, task, workflow
from stepwell.errors import (
    AnswerInvalid,
    DefinitionError,
    InputWithdrawn,
    NotAllowed,
    RequestNotFound,
    RequestRefused,
    RunCancelled,
    RunFailed,
    WrongStatus,
)

Play = Callable[..., Any]

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    ran.clear()


@dataclass
class Decision:
    publish: bool
    discount: int = 0
    note: str | None = None


@task
async def note(what: str) -> str:
    ran.append(what)
    return what


@workflow
async def spring() -> str:
    await note("collected")
    decision = await ctx.ask("Publish?", Decision, who=["ann", "bob"])
    return await note(f"{decision.publish} at {decision.discount} %")


@workflow
async def votes() -> str:
    answers = await ctx.ask("Go?", bool, who=["ann", "bob", "cleo"], quorum=2, agree=".")
    return ", ".join(f"{one.by} {one.value}" for one in answers)


@workflow
async def hurried() -> str:
    try:
        return str(await ctx.ask("Quick?", int, timeout="1h"))
    except TimeoutError as error:
        return await note(str(error))


@workflow
async def recalled() -> str:
    try:
        return str(await ctx.ask("Price?", int))
    except InputWithdrawn as error:
        return await note(str(error))


async def opened(app: Stepwell, prompt: str) -> str:
    """The id of the open question that asks this, as soon as it is there."""
    found: list[str] = []

    async def is_there() -> bool:
        found[:] = [one.id for one in await app.inbox() if one.prompt == prompt]
        return bool(found)

    await until(is_there)
    return found[0]


async def entries(app: Stepwell, run: str, *tags: str) -> list[Any]:
    """The run's entries of these kinds, in order."""
    return [one.entry for one in await app.entries(run) if one.entry.__struct_config__.tag in tags]


async def is_empty(app: Stepwell) -> bool:
    return not await app.inbox()


# -- one answer -----------------------------------------------------------------------------------------------------


def test_an_answer_resumes_just_its_step_and_what_came_before_is_not_done_again(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            request = await app.request(await opened(app, "Publish?"))
            assert (request.run_id, request.workflow, request.who) == (run.id, "spring", ("ann", "bob"))
            assert request.schema["required"] == ["publish"]
            await app.answer(request.id, Decision(True, 10), by="ann")
            assert await run.result() == "True at 10 %"
            assert ran == ["collected", "True at 10 %"]
            assert await is_empty(app)

    play(scenario)


def test_code_before_a_question_runs_once_also_when_the_engine_restarts_while_it_is_open(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(spring, id="s")
            id = await opened(app, "Publish?")
        async with make(workflows=[spring], warm_wait=0) as app:
            await until(lambda: not app.engine.runners)
            assert [one.id for one in await app.inbox()] == [id]
            await app.answer(id, {"publish": False}, by="bob")
            assert await app.handle("s").result() == "False at 0 %"
        async with make(workflows=[spring]) as app:
            assert await app.handle("s").result() == "False at 0 %"
        assert ran == ["collected", "False at 0 %"]

    play(scenario)


def test_who_answered_what_and_when_stands_in_the_journal(play: Play) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            run = await app.start(spring)
            id = await opened(app, "Publish?")
            await clock.advance(MINUTE)
            await app.answer(id, Decision(True), by="ann")
            await run.result()
            [answered, satisfied] = await entries(app, run.id, "input.answered", "wait.satisfied")
            assert (answered.by, answered.at, answered.late) == ("ann", clock.now(), False)
            assert msgspec.json.decode(answered.payload) == {"publish": True, "discount": 0, "note": None}
            assert (satisfied.by, bytes(satisfied.payload)) == ("ann", bytes(answered.payload))

    play(scenario)


def test_a_wrong_answer_is_refused_with_its_fields_named_and_the_question_stays_open(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            id = await opened(app, "Publish?")
            before = len(await app.entries(run.id))
            for wrong in ({"publish": "yes", "discount": "many", "extra": 1}, {}, None, [True], "yes"):
                with pytest.raises(AnswerInvalid) as refused:
                    await app.answer(id, wrong, by="ann")
                assert await app.request(id)
            with pytest.raises(AnswerInvalid) as refused:
                await app.answer(id, {"publish": "yes", "discount": "many"}, by="ann")
            assert {one.path for one in refused.value.problems} == {"publish", "discount"}
            assert "publish" in str(refused.value) and "discount" in str(refused.value)
            assert len(await app.entries(run.id)) == before
            await app.answer(id, {"publish": True}, by="ann")
            assert await run.result() == "True at 0 %"

    play(scenario)


def test_a_question_is_answered_by_those_only_whom_it_is_addressed_to(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            id = await opened(app, "Publish?")
            with pytest.raises(NotAllowed, match="addressed to ann, bob, not to eve"):
                await app.answer(id, Decision(True), by="eve")
            with pytest.raises(NotAllowed, match="say who answers"):
                await app.answer(id, Decision(True))
            assert [len(await app.inbox(who=who)) for who in ("ann", "bob", "eve", "")] == [1, 1, 0, 1]
            await app.answer(id, Decision(True), by="bob")
            await run.result()

    play(scenario)


def test_of_two_answers_at_the_same_moment_one_is_accepted_and_the_other_is_told(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            id = await opened(app, "Publish?")
            both = [app.answer(id, Decision(True, number), by=by) for number, by in ((1, "ann"), (2, "bob"))]
            told = await asyncio.gather(*both, return_exceptions=True)
            [accepted] = [number for number, outcome in enumerate(told, 1) if outcome is None]
            [other] = [outcome for outcome in told if outcome is not None]
            assert isinstance(other, WrongStatus | RequestNotFound)
            assert "answered" in str(other)
            assert await run.result() == f"True at {accepted} %"
            with pytest.raises(RequestNotFound):
                await app.answer(id, Decision(True), by="ann")

    play(scenario)


def test_an_answer_to_a_paused_run_is_kept_and_a_second_one_refused(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring, id="s")
            id = await opened(app, "Publish?")
            await run.pause()
            await run.wait()
            await app.answer(id, Decision(True, 5), by="ann")
            with pytest.raises(WrongStatus, match="answered already"):
                await app.answer(id, Decision(True, 6), by="bob")
            assert (await run.row()).status == "paused"
        async with make(workflows=[spring]) as app:
            run = app.handle("s")
            await run.resume()
            assert await run.result() == "True at 5 %"

    play(scenario)


def test_an_answer_given_by_another_process_reaches_the_run(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app, make(drive=False) as client:
            run = await app.start(spring)
            id = await opened(client, "Publish?")
            with pytest.raises(AnswerInvalid):
                await client.answer(id, 7, by="ann")
            await client.answer(id, {"publish": True, "discount": 3}, by="ann")
            assert await run.result() == "True at 3 %"
            assert await is_empty(client)

    play(scenario)


def test_an_answer_given_while_nothing_drives_the_run_is_kept_for_who_does(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(spring, id="s")
            id = await opened(app, "Publish?")
        async with make(drive=False) as client:
            await client.answer(id, {"publish": True}, by="ann")
            with pytest.raises(WrongStatus, match="answered already"):
                await client.answer(id, {"publish": False}, by="bob")
        async with make(workflows=[spring]) as app:
            assert await app.handle("s").result() == "True at 0 %"

    play(scenario)


class Form(msgspec.Struct):
    size: int
    colour: str = "red"


def test_an_answer_is_of_the_type_that_the_question_named(play: Play) -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", size=(int, ...), tags=(set[str], ...))
    schema = {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}, "required": ["size"]}

    @workflow
    async def asks_all() -> list[str]:
        a = await ctx.ask("dataclass", Decision)
        b = await ctx.ask("struct", Form)
        c = await ctx.ask("model", model)
        d = await ctx.ask("bool", bool)
        e = await ctx.ask("schema", schema)
        f = await ctx.ask("anything")
        return [repr(one) for one in (a, b, sorted(c.tags), type(c).__name__, d, e, f)]

    given = {
        "dataclass": (Decision(True), {"publish": 1}),
        "struct": (Form(3), {"size": "three"}),
        "model": ({"size": 2, "tags": ["x", "y"]}, {"size": 2}),
        "bool": (False, "no"),
        "schema": ({"size": 4}, {"size": 0}),
        "anything": ({"free": [1, None]}, ...),
    }

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(asks_all)
            for prompt, (right, wrong) in given.items():
                id = await opened(app, prompt)
                if wrong is not ...:
                    with pytest.raises(AnswerInvalid):
                        await app.answer(id, wrong)
                await app.answer(id, right)
            assert await run.result() == [
                "Decision(publish=True, discount=0, note=None)",
                "Form(size=3, colour='red')",
                "['x', 'y']",
                "'Model'",
                "False",
                "{'size': 4}",
                "{'free': [1, None]}",
            ]

    play(scenario)


def test_a_synchronous_workflow_asks_too_and_its_thread_is_given_back_meanwhile(play: Play) -> None:
    @workflow
    def bakes() -> str:
        note.sync("kneaded")
        decision = ctx.sync.ask("Bake?", Decision, timeout="1h", who=["ann"])
        assert isinstance(decision, Decision)
        return note.sync(f"baked {decision.publish}")

    async def scenario(make: Play) -> None:
        async with make(warm_wait=0) as app:
            run = await app.start(bakes)
            id = await opened(app, "Bake?")
            await until(lambda: not app.engine.runners)
            await app.answer(id, Decision(True), by="ann")
            assert await run.result() == "baked True"
            assert ran == ["kneaded", "baked True"]

    play(scenario)


# -- the end of a question ------------------------------------------------------------------------------------------


def test_a_deadline_takes_the_branch_for_it_and_leaves_nothing_in_the_inbox(play: Play) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            run = await app.start(hurried)
            request = await app.request(await opened(app, "Quick?"))
            assert request.due == clock.now() + HOUR
            await clock.advance(HOUR)
            assert await run.result() == "nobody answered in time"
            assert await is_empty(app)
            with pytest.raises(RequestNotFound, match="timed out"):
                await app.answer(request.id, 1)

    play(scenario)


def test_a_deadline_that_passes_while_nothing_runs_is_noticed_by_the_next_engine(play: Play) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            await app.start(hurried, id="h")
            await opened(app, "Quick?")
        await clock.advance(2 * HOUR)
        async with make(clock=clock, workflows=[hurried]) as app:
            assert await app.handle("h").result() == "nobody answered in time"
            assert await is_empty(app)

    play(scenario)


def test_a_question_taken_back_raises_in_the_workflow_who_did_it_and_why(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make(clock=HandClock()) as app:
            run = await app.start(recalled, id="r")
            id = await opened(app, "Price?")
            await app.withdraw(id, by="cleo", reason="the shop is closed")
            assert await run.result() == "cleo took the question back: the shop is closed"
            [entry] = await entries(app, run.id, "input.withdrawn")
            assert (entry.by, entry.reason) == ("cleo", "the shop is closed")
            assert await is_empty(app)
            with pytest.raises(RequestNotFound):
                await app.answer(id, 1)
            with pytest.raises(RequestNotFound):
                await app.withdraw(id)
            assert (await app.replay("r")).outcome == "ok"

    play(scenario)


def test_an_unhandled_withdrawal_fails_the_run(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            await app.withdraw(await opened(app, "Publish?"), by="cleo")
            with pytest.raises(RunFailed, match="cleo took the question back"):
                await run.result()

    play(scenario)


def test_a_run_that_is_cancelled_while_it_asks_leaves_nothing_in_the_inbox(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            id = await opened(app, "Publish?")
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            assert await is_empty(app)
            with pytest.raises(RequestNotFound):
                await app.answer(id, Decision(True), by="ann")

    play(scenario)


def test_a_retried_run_asks_again_and_hears_the_same_people_again(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(votes)
            id = await opened(app, "Go?")
            await app.answer(id, True, by="ann")
            await until(lambda: _has_answers(app, id, 1))
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            await run.retry()
            assert await opened(app, "Go?") == id
            assert (await app.request(id)).answers == ()
            await app.answer(id, True, by="ann")
            await app.answer(id, True, by="bob")
            assert await run.result() == "ann True, bob True"

    play(scenario)


# -- several people -------------------------------------------------------------------------------------------------


async def _has_answers(app: Stepwell, id: str, count: int) -> bool:
    return len((await app.request(id)).answers) == count


def test_so_many_of_several_people_must_agree_across_a_restart(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(votes, id="v")
            id = await opened(app, "Go?")
            await app.answer(id, True, by="ann")
            await until(lambda: _has_answers(app, id, 1))
        async with make(workflows=[votes]) as app:
            request = await app.request(id)
            assert [by for by, _ in request.answers] == ["ann"]
            assert [len(await app.inbox(who=who)) for who in ("ann", "bob", "cleo")] == [0, 1, 1]
            await app.answer(id, False, by="bob")
            await until(lambda: _has_answers(app, id, 2))
            await app.answer(id, True, by="cleo")
            assert await app.handle("v").result() == "ann True, bob False, cleo True"
            assert await is_empty(app)

    play(scenario)


def test_a_vote_ends_as_soon_as_its_quorum_is_out_of_reach(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(votes)
            id = await opened(app, "Go?")
            await app.answer(id, False, by="ann")
            await app.answer(id, False, by="cleo")
            assert await run.result() == "ann False, cleo False"

    play(scenario)


def test_one_person_counts_once(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(votes)
            id = await opened(app, "Go?")
            await app.answer(id, True, by="ann")
            with pytest.raises(WrongStatus, match="ann has answered"):
                await app.answer(id, False, by="ann")
            with pytest.raises(NotAllowed, match="say who answers"):
                await app.answer(id, True)
            await app.answer(id, True, by="bob")
            assert await run.result() == "ann True, bob True"

    play(scenario)


def test_a_quorum_without_names_takes_anybody_and_counts_a_field_of_a_form(play: Play) -> None:
    @workflow
    async def review() -> list[tuple[str, int]]:
        answers: list[Answer[Decision]] = await ctx.ask("Any two?", Decision, quorum=2, agree="publish")
        return [(one.by, one.value.discount) for one in answers]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(review)
            id = await opened(app, "Any two?")
            for by, publish, discount in (("x", False, 1), ("y", True, 2), ("z", False, 3), ("w", True, 4)):
                await app.answer(id, Decision(publish, discount), by=by)
            assert await run.result() == [("x", 1), ("y", 2), ("z", 3), ("w", 4)]

    play(scenario)


def test_a_question_that_nobody_could_settle_is_refused_where_it_is_asked(play: Play) -> None:
    @workflow
    async def wrong(quorum: int) -> str:
        try:
            await ctx.ask("?", bool, who=["ann", "ann", "bob"], quorum=quorum)
        except DefinitionError as error:
            return str(error)
        return "asked"

    async def scenario(make: Play) -> None:
        async with make() as app:
            assert "only 2 people may answer" in await app.run(wrong, 3)
            assert "whole number from 1" in await app.run(wrong, 0)

    play(scenario)


# -- giving a question to others ------------------------------------------------------------------------------------


def test_a_reassignment_changes_who_may_answer(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(spring, id="s")
            id = await opened(app, "Publish?")
            await app.reassign(id, ["dan"], by="ann", reason="holiday")
            await until(lambda: _is_for(app, id, ("dan",)))
            [entry] = await entries(app, "s", "input.reassigned")
            assert (entry.who, entry.by, entry.reason) == (("dan",), "ann", "holiday")
        async with make(workflows=[spring]) as app:
            with pytest.raises(NotAllowed, match="addressed to dan"):
                await app.answer(id, Decision(True), by="ann")
            assert [len(await app.inbox(who=who)) for who in ("ann", "dan")] == [0, 1]
            await app.answer(id, Decision(True), by="dan")
            assert await app.handle("s").result() == "True at 0 %"

    play(scenario)


async def _is_for(app: Stepwell, id: str, who: tuple[str, ...]) -> bool:
    return (await app.request(id)).who == who


def test_a_reassignment_to_nobody_lets_anybody_answer(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(spring)
            id = await opened(app, "Publish?")
            await app.reassign(id, [])
            await until(lambda: _is_for(app, id, ()))
            await app.answer(id, Decision(True), by="eve")
            assert await run.result() == "True at 0 %"

    play(scenario)


def test_a_reassignment_may_put_a_quorum_out_of_reach_and_ends_the_vote(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(votes)
            id = await opened(app, "Go?")
            await app.answer(id, False, by="ann")
            await until(lambda: _has_answers(app, id, 1))
            await app.reassign(id, ["ann", "bob"])
            assert await run.result() == "ann False"

    play(scenario)


def test_a_reassignment_to_fewer_people_than_must_answer_is_refused(play: Play) -> None:
    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(votes)
            id = await opened(app, "Go?")
            with pytest.raises(RequestRefused, match="asks 2 different people"):
                await app.reassign(id, ["dan"])
            await app.answer(id, True, by="ann")
            await until(lambda: _has_answers(app, id, 1))
            await app.reassign(id, ["dan"])
            await until(lambda: _is_for(app, id, ("dan",)))
            await app.answer(id, True, by="dan")
            assert await run.result() == "ann True, dan True"

    play(scenario)


# -- reminders ------------------------------------------------------------------------------------------------------


def test_reminders_are_journaled_at_their_times_and_published_across_restarts(play: Play) -> None:
    clock = HandClock()

    @workflow
    async def orders() -> bool:
        return await ctx.ask("Order?", bool, who=["ann"], reminders=["2h", "30m"])

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            run = await app.start(orders, id="o")
            id = await opened(app, "Order?")
            asked = clock.now()
            await clock.advance(30 * MINUTE)
            await until(lambda: _count(app, 2))
        await clock.advance(2 * HOUR)  # nobody drives it when the second one is due
        async with make(clock=clock, workflows=[orders]) as app:
            await until(lambda: _count(app, 3))
            reminded = await entries(app, "o", "input.reminded")
            assert [one.number for one in reminded] == [1, 2]
            assert [one.at - asked for one in reminded] == [30 * MINUTE, 150 * MINUTE]
            events = [(one.topic, msgspec.json.decode(one.body)) for one in await app.events()]
            topics = ["stepwell.input.asked", "stepwell.input.reminder", "stepwell.input.reminder"]
            assert [topic for topic, _ in events] == topics
            for topic, event in events:
                assert (event["type"], event["source"], event["subject"]) == (topic, "stepwell/runs/o", id)
                assert (event["data"]["prompt"], event["data"]["who"], event["data"]["id"]) == ("Order?", ["ann"], id)
            await app.answer(id, True, by="ann")
            assert await app.handle("o").result() is True
            await clock.advance(10 * HOUR)
            assert len(await app.events()) == 3
        assert run.id == "o"

    play(scenario)


async def _count(app: Stepwell, events: int) -> bool:
    return len(await app.events()) == events


def test_a_workflow_that_listens_to_questions_sends_the_mails_about_them(play: Play) -> None:
    @workflow
    async def mails() -> str:
        event = await ctx.event("stepwell.input.asked", where={"in": ["ann", {"var": "data.who"}]})
        return await note(f"mail to ann: {event.data['prompt']}")

    async def scenario(make: Play) -> None:
        async with make() as app:
            mail = await app.start(mails)
            run = await app.start(votes)
            assert await mail.result() == "mail to ann: Go?"
            await run.cancel()

    play(scenario)


# -- the inbox ------------------------------------------------------------------------------------------------------


def test_the_inbox_is_read_in_pages_by_run_and_by_person(play: Play) -> None:
    @workflow
    async def asks_many(count: int) -> int:
        async def one(number: int) -> bool:
            return await ctx.ask(f"{number}?", bool, who=["ann" if number % 3 else "bob"], name=f"q{number}")

        return sum(await ctx.map(one, range(count)))

    @workflow
    async def in_memory() -> bool:
        return await ctx.ask("volatile?", bool)

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(asks_many, 30)
            volatile = await app.start(in_memory, durability="memory")
            await opened(app, "volatile?")
            await until(lambda: _waits(app, 31))
            every = [one.prompt for one in await app.inbox()]
            assert sorted(every) == sorted([*(f"{n}?" for n in range(30)), "volatile?"])
            paged = [one.prompt for n in range(0, 40, 7) for one in await app.inbox(limit=7, offset=n)]
            assert paged == every
            assert [one.prompt for one in await app.inbox(who="bob", run=run.id, limit=4, offset=2)] == [
                f"{n}?" for n in (6, 9, 12, 15)
            ]
            assert await app.inbox(who="bob", offset=50) == []
            for request in await app.inbox():
                await app.answer(request.id, True, by=request.who[0] if request.who else "")
            assert await run.result() == 30
            assert await volatile.result() is True

    play(scenario)


async def _waits(app: Stepwell, count: int) -> bool:
    return len(await app.inbox()) == count
