"""The triggers that stand in definitions: made when a version begins to serve, replaced by the next, and fired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from patience import until
from virtually import DAY, HOUR, MINUTE, Virtual

from stepwell import graph_workflow, task
from stepwell.errors import RequestRefused
from stepwell.graph.problems import InvalidDefinition
from stepwell.stores.protocol import Filter
from stepwell.testing.virtual import BASE
from stepwell.usecases.triggers import describe_trigger

Play = Callable[..., Any]

REPORT = """
stepwell: 1
id: report
input: {type: object, properties: {shop: {type: string}}}
nodes:
  a: {transform: "{{ input.shop ?? 'all' }}"}
result: {shop: "{{ a }}", why: "{{ event.type ?? null }}", id: "{{ event.data.order ?? null }}"}
"""


def report(*triggers: str) -> str:
    return REPORT + f"triggers: [{', '.join(triggers)}]\n"


NIGHTLY = "{schedule: '0 2 * * *', input: {shop: books}}"
PAID = "{event: order.paid, where: {'>': [{var: data.total}, 10]}}"


async def names(app: Any) -> list[tuple[str, str]]:
    return [(row.name, row.kind) for row in await app.triggers()]


async def started(app: Any) -> list[tuple[str, str, Any]]:
    """When runs began (days, hours and minutes after the beginning), what started them, and their results."""
    found = []
    for row in sorted(await app.runs(Filter(limit=1000)), key=lambda row: row.created_at):
        at = row.created_at - BASE
        when = f"{at // DAY} {at % DAY // HOUR:02}:{at % HOUR // MINUTE:02}"
        found.append((when, row.run_id.partition("@")[0], await app.handle(row.run_id).result()))
    return found


# -- when they are made -----------------------------------------------------------------------------------------------


def test_triggers_come_with_the_version_that_serves_and_go_with_it(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as app:
            await app.deploy(report(NIGHTLY, PAID, "{webhook: /report, secret: env.HOOK}"), label="1")
            three = [("report/1", "schedule"), ("report/2", "event"), ("report/3", "webhook")]
            assert await names(app) == three
            said = [describe_trigger(row) for row in await app.triggers()]
            assert said[2] == "on requests to /report"
            made = await app.triggers()
            await app.deploy(report(NIGHTLY, PAID, "{webhook: /report, secret: env.HOOK}"))
            assert await app.triggers() == made
            await app.deploy(report(PAID), activate=False, label="2")
            assert await names(app) == three
            await app.activate("report", "2")
            assert await names(app) == [("report/1", "event")]
            await app.deploy(report("{schedule: every 15m, name: often}", "{event: order.lost}"))
            assert await names(app) == [("report/2", "event"), ("report/often", "schedule")]
            await app.undeploy("report", "1")
            assert len(await names(app)) == 2
            await app.undeploy("report")
            assert await names(app) == []

    play(scenario)


def test_triggers_that_somebody_made_are_left_alone(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            mine = graph_workflow(REPORT)
            await app.schedule("report/1", mine, {"shop": "x"}, cron="0 1 * * *")
            with pytest.raises(RequestRefused, match="there is a trigger 'report/1', which no definition stands for"):
                await app.deploy(report(NIGHTLY))
            [row] = await app.workflow_versions("report")
            assert not row.active  # it is the program's
            await app.deploy(report("{schedule: '0 2 * * *', name: mine}"))
            await app.undeploy("report")
            assert await names(app) == [("report/1", "schedule")]

    play(scenario)


def test_a_trigger_that_was_paused_stays_paused_when_the_next_version_has_it_too(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as app:
            await app.deploy(report(NIGHTLY))
            await app.pause_trigger("report/1")
            await app.deploy(report(NIGHTLY.replace("books", "toys")))
            [row] = await app.triggers()
            assert row.paused
            assert msgspec.json.decode(row.input) == {"shop": "toys"}

    play(scenario)


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ("{schedule: '0 99 * * *'}", "trigger 1: schedule 'report/1'"),
        ("{schedule: nightly}", "trigger 1: schedule 'report/1'"),
        ("{schedule: '0 2 * * *', timezone: Mars/Olympus}", "Mars/Olympus"),
        ("{schedule: '0 2 * * *', input: [1]}", "the input of a run is a mapping"),
        ("{event: order.paid, where: '{{ event.ok }}'}", "where is JSONLogic over the event's envelope"),
        ("{event: order.paid, where: {nonsense: 1}}", "nonsense"),
        ("{event: order.paid, input: {shop: '{{ a.b }}'}}", "only `event` can be referred to"),
        ("{event: order.paid, name: 'a b'}", "its name 'report/a b' is not usable"),
    ],
)
def test_what_is_wrong_with_a_trigger_is_told_with_its_place(trigger: str, said: str, play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as app:
            with pytest.raises(InvalidDefinition) as told:
                await app.deploy(report(trigger))
            [problem] = told.value.problems
            assert (problem.code, problem.place.line) == ("wrong-trigger", 8)
            assert said in problem.message
            assert await app.workflows() == []
            assert await app.validate(report(trigger)) == [problem]

    play(scenario)


def test_what_a_schedule_gives_that_does_not_fit_is_a_warning(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as app:
            strict = report("{schedule: '0 2 * * *'}").replace("properties:", "required: [shop], properties:")
            done = await app.deploy(strict.replace("input.shop ?? 'all'", "input.shop"))
            assert [one.code for one in done.warnings] == ["trigger-input"]
            done = await app.deploy(report("{schedule: '0 2 * * *', input: {shop: '{{ run.id }}'}}"))
            assert "templates in it are not filled in" in done.warnings[0].message

    play(scenario)


# -- firing -----------------------------------------------------------------------------------------------------------


def test_a_definition_s_schedule_fires_and_its_next_version_takes_over() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.deploy(report(NIGHTLY, "{schedule: '2027-01-16T12:00:00Z', input: {shop: once}}"))
            await asyncio.sleep(2 * 86_400)
            await app.deploy(report("{schedule: every 12h, input: {shop: toys}}"))
            await asyncio.sleep(86_400)
            await app.undeploy("report")
            await asyncio.sleep(86_400)
            rows = await started(app)
            assert {name for _, name, _ in rows} == {"report/1", "report/2"}
            shops = [result["shop"] for _, _, result in rows]
            assert sorted(shops) == ["books"] * 2 + ["once"] + ["toys"] * 2

    virtual.play(scenario())


def test_an_event_starts_a_run_with_its_data_as_the_input(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.deploy(report(PAID))
            await app.publish("order.paid", {"total": 5, "shop": "cheap"})
            await app.publish("order.paid", {"total": 50, "shop": "books", "order": 7}, id="e7")
            await until(lambda: _ended(app, 1))
            [row] = await app.runs()
            assert await app.handle(row.run_id).result() == {"shop": "books", "why": "order.paid", "id": 7}
            created = (await app.entries(row.run_id))[0].entry
            assert msgspec.json.decode(created.event)["id"] == "e7"
            assert "data" not in msgspec.json.decode(created.event)
            again = await app.rerun(row.run_id)
            assert (await again.result())["why"] == "order.paid"
            by_hand = await app.run("report", shop="x")
            assert by_hand == {"shop": "x", "why": None, "id": None}
            assert (await app.replay(row.run_id)).outcome == "ok"

    play(scenario)


def test_a_trigger_can_say_what_the_input_is_made_of(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.deploy(
                report("{event: order.paid, input: {shop: '{{ event.data.by.name }} of {{ event.type }}'}}")
            )
            await app.publish("order.paid", {"by": {"name": "Ada"}, "order": 3})
            await until(lambda: _ended(app, 1))
            [row] = await app.runs()
            result = await app.handle(row.run_id).result()
            assert result == {"shop": "Ada of order.paid", "why": "order.paid", "id": 3}

    play(scenario)


def test_an_event_that_fits_no_run_is_noted_and_the_next_one_starts_one(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.deploy(report("{event: order.paid}"))
            await app.publish("order.paid", {"shop": 1})
            await app.publish("order.paid", [1, 2])
            await app.publish("order.paid")
            await until(lambda: _ended(app, 1))
            notes = [firing.note for firing in reversed(await app.firings("report/1"))]
            assert "does not fit its schema" in notes[0]
            assert "is a JSON object" in notes[1]
            assert notes[2] == ""

    play(scenario)


async def _ended(app: Any, count: int) -> bool:
    return len([row for row in await app.runs() if row.status in ("completed", "failed")]) >= count


def test_programs_let_events_start_their_graphs_too(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.on("order.paid", graph_workflow(REPORT), name="mine")
            rules = {"shop": {"cat": ["shop ", {"var": "data.n"}]}}
            await app.on("order.lost", graph_workflow(REPORT), name="mapped", map=rules)
            await app.publish("order.paid", {"shop": "books"})
            await app.publish("order.lost", {"n": 3})
            await until(lambda: _ended(app, 2))
            results = [(await app.handle(row.run_id).result())["shop"] for row in await app.runs()]
            assert sorted(results) == ["books", "shop 3"]

    play(scenario)


def test_a_trigger_of_another_process_s_deployment_fires_here() -> None:
    virtual = Virtual()
    loop, elsewhere = virtual.process("elsewhere")

    async def deploys() -> None:
        async with elsewhere(drive=False) as client:
            await asyncio.sleep(60)
            await client.deploy(report("{schedule: '*/10 * * * *'}", "{event: order.paid}"))
            await asyncio.sleep(60)
            await client.publish("order.paid", {"shop": "books"})

    async def scenario() -> None:
        async with virtual.make(is_shared=True) as app:
            there = loop.create_task(deploys())
            await asyncio.sleep(1500)
            assert there.done()
            assert [name for _, name, _ in await started(app)] == ["report/2", "report/1", "report/1"]

    virtual.play(scenario())


# -- the event dialect ------------------------------------------------------------------------------------------------

WELCOME = {
    "workflow_id": "welcome",
    "tasks": [
        {
            "task_id": "profile",
            "type": "make_profile",
            "inputs": {"email": "{{ user_email }}"},
            "triggers": ["user.created", "user.invited"],
        },
        {
            "task_id": "mail",
            "type": "send_mail",
            "inputs": {"to": "{{ user_email }}"},
            "triggers": ["profile.completed"],
        },
        {"task_id": "only_new", "type": "send_mail", "inputs": {"to": "new"}, "triggers": ["user.created"]},
        {"task_id": "sorry", "type": "tell", "triggers": ["profile.failed", "mail.failed"]},
        {"task_id": "count", "type": "tell", "triggers": ["task_completed"]},
    ],
}


def test_a_definition_in_the_event_dialect_runs_as_it_is(play: Play) -> None:
    did: list[tuple[str, str]] = []

    @task
    async def make_profile(email: str) -> str:
        did.append(("profile", email))
        return email

    @task
    async def send_mail(to: str) -> None:
        did.append(("mail", to))
        if to == "nobody":
            raise ValueError("there is no such address")

    @task
    async def tell() -> None:
        did.append(("tell", ""))

    async def scenario(make: Any) -> None:
        did.clear()
        async with make(tasks=[make_profile, send_mail, tell]) as app:
            deployed = await app.deploy(WELCOME)
            assert [row.dialect for row in await app.workflow_versions("welcome")] == ["events"]
            assert await names(app) == [("welcome/1", "event"), ("welcome/2", "event")]
            await app.publish("user.created", {"user_email": "ada"})
            await until(lambda: _ended(app, 1))
            assert sorted(did) == [("mail", "ada"), ("mail", "new"), ("profile", "ada"), ("tell", "")]
            did.clear()
            await app.publish("user.invited", {"user_email": "bo"})
            await until(lambda: _ended(app, 2))
            assert sorted(did) == [("mail", "bo"), ("profile", "bo"), ("tell", "")]
            did.clear()
            await app.publish("user.invited", {"user_email": "nobody"})
            await until(lambda: _ended(app, 3))
            assert sorted(did) == [("mail", "nobody"), ("profile", "nobody"), ("tell", ""), ("tell", "")]
            did.clear()
            run = await app.start("welcome", {"user_email": "by hand"})
            await run.result()
            assert sorted(did) == [("mail", "by hand"), ("mail", "new"), ("profile", "by hand"), ("tell", "")]
            assert {row.version for row in await app.runs()} == {deployed.version}

    play(scenario)
