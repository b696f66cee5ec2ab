"""Does a LangGraph graph in a run wait for people, and survive the worker that ran it?"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph", reason="LangGraph is not installed: pip install 'stepwell[langgraph]'")

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from stepwell import Stepwell
from stepwell.authoring.graph import graph_workflow
from stepwell.nodes.langgraph import LangGraphNode


class Notes(TypedDict, total=False):
    notes: Annotated[list[Any], operator.add]


class Agent:
    """A node type with a graph of these nodes one after the other, which note that they begin."""

    def __init__(self, **nodes: Callable[[Any], Any]) -> None:
        self.began: list[str] = []
        graph = StateGraph(Notes)
        for name, function in nodes.items():
            graph.add_node(name, self._noting(name, function))
        for one, other in zip([START, *nodes], [*nodes, END], strict=True):
            graph.add_edge(one, other)
        self.type = LangGraphNode({"agent": graph.compile()})

    def _noting(self, name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def node(state: Any) -> Any:
            self.began.append(name)
            result = function(state)
            result = await result if isinstance(result, Awaitable) else result
            return {"notes": [name if result is None else result]}

        return node


def flow(**node: Any) -> dict[str, Any]:
    agent = {"langgraph": {"graph": "agent", "input": {"notes": ["{{ input.x }}"]}}, **node}
    return {"stepwell": 1, "id": "flow", "nodes": {"agent": agent}}


async def question(app: Stepwell, run_id: str, prompt: str) -> str:
    """The id of an open question, once it is there."""
    while True:
        for one in await app.inbox(run=run_id):
            if one.prompt == prompt:
                return one.id
        await asyncio.sleep(0.005)


def test_interrupts_are_in_the_inbox_and_the_graph_goes_on_with_the_answers(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        agent = Agent(plan=lambda _: None, ask=lambda _: [interrupt("Name?"), interrupt("Age?")])
        async with make(node_types=[agent.type]) as app:
            run = await app.start(graph_workflow(flow(), types=app.types), x="in", id="r1")
            await app.answer(await question(app, "r1", "Name?"), "Ann")
            await app.answer(await question(app, "r1", "Age?"), 30)
            assert await run.result() == {"notes": ["in", "plan", ["Ann", 30]]}
            assert agent.began.count("plan") == 1

    play(scenario)


def test_a_worker_that_takes_the_run_over_goes_on_in_the_middle_of_the_graph(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        hangs = asyncio.Event()

        async def hang(_: Any) -> None:
            hangs.set()
            await asyncio.Event().wait()

        first = Agent(plan=lambda _: None, work=hang, report=lambda _: None)
        app = make(node_types=[first.type])
        await app.open()
        await app.start(graph_workflow(flow(), types=app.types), x="in", id="r1")
        await hangs.wait()
        await app.close(grace=0)
        then = Agent(plan=lambda _: None, work=lambda _: interrupt("Done?"), report=lambda _: None)
        async with make(node_types=[then.type]) as app:
            await app.answer(await question(app, "r1", "Done?"), "yes")
            assert await app.result("r1") == {"notes": ["in", "plan", "yes", "report"]}
        assert first.began == ["plan", "work"]
        assert then.began == ["work", "work", "report"], "to its question, and again with the answer; `plan` never"

    play(scenario)


def test_a_question_that_is_open_when_the_worker_ends_is_answered_later(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        agent = Agent(plan=lambda _: None, ask=lambda _: interrupt("Go?"))
        async with make(node_types=[agent.type]) as app:
            await app.start(graph_workflow(flow(), types=app.types), x="in", id="r1")
            await question(app, "r1", "Go?")
        async with make(node_types=[agent.type]) as app:
            await app.answer(await question(app, "r1", "Go?"), "now")
            assert await app.result("r1") == {"notes": ["in", "plan", "now"]}
        assert agent.began == ["plan", "ask", "ask"]

    play(scenario)


def test_a_node_s_retry_goes_on_at_what_failed_in_the_graph(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        def fails_twice(_: Any) -> None:
            if agent.began.count("work") < 3:
                raise ConnectionError("down")

        agent = Agent(plan=lambda _: None, work=fails_twice)
        async with make(node_types=[agent.type]) as app:
            workflow = graph_workflow(flow(retry={"attempts": 3, "first": "1ms"}), types=app.types)
            run = await app.start(workflow, x="in")
            assert await run.result() == {"notes": ["in", "plan", "work"]}
        assert agent.began == ["plan", "work", "work", "work"]

    play(scenario)


def test_what_a_run_s_graph_kept_goes_with_the_run(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        agent = Agent(plan=lambda _: None)
        async with make(node_types=[agent.type]) as app:
            workflow = graph_workflow(flow(), types=app.types)
            await (await app.start(workflow, x="in", id="r1")).result()
            assert await app.store.shelf_owners() == ["r1"]
            await app.store.delete(finished_before=1 << 62)
            assert await app.store.shelf_owners() == []

    play(scenario)
