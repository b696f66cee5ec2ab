"""Graphs that are deployed: started by name, kept on their versions, seen by other processes, mended while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from patience import until
from virtually import Virtual

from stepwell import NodeType, blocking, ctx, graph_workflow, task, workflow
from stepwell.errors import (
    ArgumentError,
    DefinitionError,
    RequestRefused,
    RunExists,
    RunSetAside,
    StoreFull,
    WorkflowNotFound,
)
from stepwell.model.entries import RunResumed, StepStarted
from stepwell.nodes.protocol import ActionContext

Play = Callable[..., Any]

SHOP = """
stepwell: 1
id: shop
input: {type: object, required: [count], properties: {count: {type: integer}}}
nodes:
  first: {task: price, inputs: {count: "{{ input.count }}"}}
  word: {wait_signal: go, needs: first}
  last: {transform: {total: "{{ first }}", by: "one"}, needs: word}
"""
OTHER = SHOP.replace('by: "one"', 'by: "two"')
QUICK = 'stepwell: 1\nid: quick\nnodes: {a: {transform: {n: "{{ input.n ?? 0 }}"}}, b: {transform: done, needs: a}}\n'


@task
async def price(count: int) -> int:
    return count * 10


@workflow
async def greeting(name: str) -> str:
    return f"hello {name}"


async def status(app: Any, id: str) -> str:
    return str((await app.get(id)).status)


# -- by name ----------------------------------------------------------------------------------------------------------


def test_a_deployed_graph_is_started_by_its_name(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(tasks=[price]) as app:
            deployed = await app.deploy(SHOP)
            run = await app.start("shop", {"count": 2}, id="one")
            assert (await run.row()).version == deployed.version
            await run.signal("go")
            assert await run.result() == {"total": 20, "by": "one"}
            again = await app.start("shop", count=2, id="one")
            assert (await again.row()).status == "completed"
            with pytest.raises(RunExists):
                await app.start("shop", count=3, id="one")
            with pytest.raises(ArgumentError, match=r"does not fit its schema.*count"):
                await app.start("shop", {"count": "two"})
            run = await app.start_encoded("shop", msgspec.Raw(b'{"count": 4}'))
            assert (await run.state()).workflow == "shop"
            with pytest.raises(ArgumentError, match="does not fit its schema"):
                await app.start_encoded("shop", msgspec.Raw(b"{}"))

    play(scenario)


def test_functions_are_started_by_name_too_and_what_is_unknown_is_told_with_what_is_near(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(workflows=[greeting]) as app:
            await app.deploy(QUICK)
            assert await app.run("greeting", "Ada") == "hello Ada"
            assert await app.run("quick", {"n": 1}) == "done"
            with pytest.raises(WorkflowNotFound, match=r"'greting'.*did you mean 'greeting'"):
                await app.run("greting", "Ada")
            with pytest.raises(WorkflowNotFound, match=r"'quik'.*did you mean 'quick'"):
                await app.start("quik")
            with pytest.raises(WorkflowNotFound, match="deploy its definition"):
                await app.start("../etc/passwd")
            await app.undeploy("quick")
            with pytest.raises(WorkflowNotFound, match=r"has no active version|there is no workflow 'quick'"):
                await app.start("quick")
            with pytest.raises(DefinitionError, match="a function is called 'greeting'"):
                await app.deploy(QUICK.replace("quick", "greeting"))

    play(scenario)


def test_a_client_starts_by_name_what_the_store_has(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False, workflows=[greeting]) as client:
            await client.deploy(QUICK.replace("nodes:", "concurrency: 1\nnodes:"))
            with pytest.raises(WorkflowNotFound):
                await client.start("slow")
            runs = [await client.start("quick", n=n, id=f"q{n}") for n in range(3)]
            assert (await client.start("greeting", "Bo", id="g")).id == "g"
            assert [(await run.row()).status for run in runs] == ["pending"] * 3
        async with make(workflows=[greeting]) as app:
            assert [await app.handle(f"q{n}").result() for n in range(3)] == ["done"] * 3
            assert await app.handle("g").result() == "hello Bo"

    play(scenario)


def test_scripts_without_await_start_by_name(tmp_path: Any) -> None:
    with blocking.Stepwell(tmp_path / "runs.db", tasks=[price]) as app:
        app.deploy(QUICK)
        assert app.run("quick", {"n": 3}) == "done"
        run = app.start("quick", {"n": 3}, until="a")
        assert run.result() == {"n": 3}
        again = app.rerun_from(run.id, "b", new_id="again")
        assert again.result() == "done"


# -- until ------------------------------------------------------------------------------------------------------------

WIDE = """
stepwell: 1
id: wide
nodes:
  a: {task: count}
  b: {task: count, needs: a}
  c: {task: count, needs: a}
  d: {task: count, needs: [b, c]}
  other: {task: count}
  each: {map: [1, 2], needs: d, do: {inner: {noop: {}}}}
"""


def test_a_run_can_end_with_a_node_and_does_only_what_leads_to_it(play: Play) -> None:
    began = []

    @task
    async def count() -> int:
        began.append(ctx.step.partition("#")[0])
        return len(began)

    async def scenario(make: Any) -> None:
        began.clear()
        async with make(tasks=[count]) as app:
            await app.deploy(WIDE)
            run = await app.start("wide", until="b", labels={"x": "y"})
            assert await run.result() == 2
            assert began == ["a", "b"]
            assert (await run.row()).labels == {"x": "y", "stepwell.until": "b"}
            whole = await app.rerun_from(run.id, "c", new_id="whole")
            await whole.result()
            assert sorted(began[2:]) == ["c", "d", "other"]
            assert (await whole.row()).labels == {"x": "y"}
            assert (await app.replay(run.id)).outcome == "ok"

    play(scenario)


def test_what_a_run_cannot_end_with_is_refused(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(workflows=[greeting], tasks=[task(name="count")(lambda: 1)]) as app:
            await app.deploy(WIDE)
            with pytest.raises(ArgumentError, match="until='othr': graph wide has no such node; did you mean 'other'"):
                await app.start("wide", until="othr")
            with pytest.raises(ArgumentError, match=r"no such node .a node inside a container cannot be named"):
                await app.start("wide", until="each:1/inner")
            with pytest.raises(ArgumentError, match="greeting is a function, and only graphs have nodes"):
                await app.start("greeting", "x", until="b")
            assert await app.runs() == []

    play(scenario)


# -- versions ---------------------------------------------------------------------------------------------------------


def test_a_run_stays_with_its_version_until_it_is_upgraded(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(tasks=[price]) as app:
            first = await app.deploy(SHOP, label="1")
            for id in ("stays", "moves"):
                await app.start("shop", count=1, id=id)
            await until(lambda: _waits(app, "stays", "moves"))
            second = await app.deploy(OTHER, label="2")
            new = await app.start("shop", count=1, id="new")
            assert (await new.row()).version == second.version
            await app.upgrade("moves", to="2")
            with pytest.raises(RequestRefused, match="no deployed version '3'"):
                await app.upgrade("moves", to="3")
        async with make(tasks=[price]) as app:  # all of them are made anew from their journals
            for id in ("stays", "moves", "new"):
                await app.signal(id, "go")
            results = {id: (await app.handle(id).result())["by"] for id in ("stays", "moves", "new")}
            assert results == {"stays": "one", "moves": "two", "new": "two"}
            assert (await app.state("stays")).version == first.version
            assert (await app.state("moves")).version == second.version
            prices = [e for e in [s.entry for s in await app.entries("moves")] if isinstance(e, StepStarted)]
            assert len(prices) == 1  # what was done is not done again
            await app.activate("shop", "1")
            assert (await (await app.start("shop", count=1)).row()).version == first.version

    play(scenario)


async def _waits(app: Any, *ids: str) -> bool:
    return all([(await app.get(id)).status == "waiting" for id in ids])


def test_a_graph_of_the_program_serves_by_its_name_until_one_is_deployed(play: Play) -> None:
    async def scenario(make: Any) -> None:
        mine = graph_workflow(QUICK)
        async with make(workflows=[mine]) as app:
            assert await app.run("quick") == "done"
            await app.deploy(QUICK.replace("done", "deployed"))
            assert await app.run("quick") == "deployed"
            assert await app.run(mine) == "done"
            assert await app.run("quick") == "deployed"
            await app.deploy(QUICK.replace("done", "once more"))
            assert await app.run("quick") == "once more"

    play(scenario)


def test_a_run_of_a_version_that_is_not_in_the_store_is_set_aside_and_the_others_go_on(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as client:
            deployed = await client.deploy(QUICK)
            await client.start("quick", n=1, id="lost")
            await client.deploy(QUICK.replace("done", "better"))
            await client.start("quick", n=1, id="kept")
        async with make(drive=False) as client:
            await _forget(client.store, "quick", deployed.digest)
        async with make() as app:
            assert await app.handle("kept").result() == "better"
            with pytest.raises(RunSetAside, match="of graph 'quick' is not in the store: deploy it and resume"):
                await app.handle("lost").result()
            assert await app.run("quick") == "better"
            await app.deploy(QUICK, activate=False)
            await app.resume("lost")
            assert await app.handle("lost").result() == "done"

    play(scenario)


async def _forget(store: Any, name: str, digest: str) -> None:
    """Take a definition away behind the store's back, as a wrong restore would."""
    if hasattr(store, "data"):
        del store.data.definitions[name, digest]
    else:
        import sqlite3

        with sqlite3.connect(store.path) as connection:
            connection.execute("delete from definitions where digest = ?", (digest,))
        connection.close()


# -- other processes ---------------------------------------------------------------------------------------------------


def test_a_claimed_run_whose_graph_cannot_be_read_for_now_is_driven_when_it_can_be(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as app:
            await app.deploy(QUICK)
            for number in range(3):
                await app.start("quick", n=number, id=f"q-{number}")
        app = make()
        trouble = [StoreFull("no room for now")] * 4
        definition = app.store.definition

        async def in_trouble(name: str, version: str = "") -> Any:
            if trouble:
                raise trouble.pop()
            return await definition(name, version)

        app.store.definition = in_trouble
        await app.open()
        app.engine.store_retry = 1000
        assert [await app.handle(f"q-{number}").result() for number in range(3)] == ["done"] * 3
        assert not trouble

    play(scenario)


def test_what_another_process_deploys_is_served_within_five_seconds() -> None:
    virtual = Virtual()
    loop, elsewhere = virtual.process("elsewhere")

    async def deploys() -> None:
        async with elsewhere(drive=False) as client:
            await asyncio.sleep(100)
            await client.deploy(QUICK)
            await client.start("quick", n=1, id="by-client")
            await asyncio.sleep(50)
            await client.deploy(QUICK.replace("done", "better"))

    async def scenario() -> None:
        async with virtual.make(is_shared=True) as app:
            there = loop.create_task(deploys())
            await asyncio.sleep(105)
            assert await status(app, "by-client") == "completed"
            assert await app.run("quick") == "done"
            await asyncio.sleep(50)
            assert await app.run("quick") == "better"
            assert there.done()

    virtual.play(scenario())


# -- what is missing --------------------------------------------------------------------------------------------------

PARENT = """
stepwell: 1
id: parent
nodes:
  child: {workflow: {workflow: child, inputs: {n: 1}}}
  last: {transform: "{{ child }}", needs: child}
"""
CHILD = 'stepwell: 1\nid: child\nnodes: {a: {transform: "{{ input.n }}"}}\n'


def test_a_run_whose_child_is_not_deployed_goes_on_when_it_is(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.deploy(PARENT)
            run = await app.start("parent")
            with pytest.raises(RunSetAside, match="workflow 'child', which node child#1 starts, is not known here"):
                await run.result()
            await app.deploy(CHILD)
            await until(lambda: _is(app, run.id, "completed"))
            assert await run.result() == 1
            entries = [stored.entry for stored in await app.entries(run.id)]
            assert [e.reason for e in entries if isinstance(e, RunResumed)] == ["its workflow is there now"]

    play(scenario)


async def _is(app: Any, id: str, status: str) -> bool:
    return bool((await app.get(id)).status == status)


def test_children_are_found_in_their_versions_whenever_they_were_deployed(play: Play) -> None:
    by_data = PARENT.replace("workflow: child, inputs", 'workflow: child, version: "{{ input.version }}", inputs')
    by_label = PARENT.replace("workflow: child, inputs", "workflow: child, version: old, inputs")

    async def scenario(make: Any) -> None:
        async with make(drive=False) as client:
            await client.deploy(CHILD.replace("{{ input.n }}", "old {{ input.n }}"), label="old")
            await client.deploy(CHILD)
            await client.deploy(PARENT)
        async with make(workflows=[greeting]) as app:  # nothing of it is loaded yet
            assert await app.run("parent") == 1
            assert await app.run(graph_workflow(by_data), version="old") == "old 1"
            assert await app.run(graph_workflow(by_label)) == "old 1"
            await app.deploy(CHILD.replace("{{ input.n }}", "new {{ input.n }}"))
            assert await app.run("parent") == "new 1"
            assert await app.run(graph_workflow(by_label)) == "old 1"

    play(scenario)


# -- node types -------------------------------------------------------------------------------------------------------


class ShoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    times: int = 1


class Shout(NodeType):
    name = "shout"
    summary = "Say it loudly."
    Settings = ShoutSettings
    main = "text"
    ports = ("silence",)

    async def run(self, settings: ShoutSettings, context: ActionContext) -> object:
        from stepwell import Outcome

        if not settings.text:
            return Outcome("nothing", port="silence")
        context.log("shouting", {"times": settings.times})
        return {"said": settings.text.upper() * settings.times, "attempt": context.attempt, "run": ctx.run_id}


SHOUTING = """
stepwell: 1
id: loud
nodes:
  say: {shout: {text: "{{ input.text }}", times: 2}}
  quiet: {transform: quiet, needs: "say:silence"}
  heard: {transform: "{{ say.said }}", needs: say}
result: {heard: "{{ heard ?? null }}", quiet: "{{ quiet ?? null }}"}
"""


def test_a_third_party_node_type_is_an_action_like_any_other(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(node_types=[Shout()]) as app:
            await app.deploy(SHOUTING)
            assert await app.run("loud", text="hey") == {"heard": "HEYHEY", "quiet": None}
            assert await app.run("loud", text="") == {"heard": None, "quiet": "quiet"}
            assert (await app.runs())[0].status == "completed"
            with pytest.raises(DefinitionError, match=r"shout|times"):
                await app.deploy(SHOUTING.replace("times: 2", "volume: 2"))

    play(scenario)


def test_node_types_come_and_go_while_the_engine_runs(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            with pytest.raises(DefinitionError, match="no type"):
                await app.deploy(SHOUTING)
            app.add_node_type(Shout())
            with pytest.raises(DefinitionError, match="there is a node type 'shout' already"):
                app.add_node_type(Shout())
            app.add_node_type(Shout(), replace=True)
            assert "shout" in [one.name for one in app.node_types()]
            assert {"task", "http", "map"} <= {one.name for one in app.node_types()}
            await app.deploy(SHOUTING)
            assert (await app.run("loud", text="a"))["heard"] == "AA"
            assert app.remove_node_type("shout")
            assert not app.remove_node_type("shout")
            assert (await app.run("loud", text="b"))["heard"] == "BB"  # its plan is compiled
        async with make(drive=False, node_types=[Shout()]) as client:
            await client.start("loud", text="c", id="later")
        async with make() as app:
            with pytest.raises(RunSetAside, match=r"graph 'loud' does not compile any more:(.|\n)*shout"):
                await app.handle("later").result()
            assert (await app.start(graph_workflow(QUICK), id="fine")).id == "fine"
            assert await app.handle("fine").result() == "done"
            app.add_node_type(Shout())
            await until(lambda: _is(app, "later", "completed"))
            assert (await app.handle("later").result())["heard"] == "CC"

    play(scenario)
