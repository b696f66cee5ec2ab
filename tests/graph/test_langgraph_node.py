"""Does a LangGraph graph run as one node: once per node of it, with people answering, through crashes?"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph", reason="LangGraph is not installed: pip install 'stepwell[langgraph]'")

from acting import Acting
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from stepwell.errors import DefinitionError
from stepwell.nodes.langgraph import LangGraphNode, LangGraphSettings
from stepwell.nodes.parts.langgraph_graphs import Graphs
from stepwell.nodes.protocol import Outcome
from stepwell.stores import open_store
from stepwell.stores.protocol import Store


class Notes(TypedDict, total=False):
    notes: Annotated[list[Any], operator.add]


class Place:
    """A store, a node type with one graph, and what the graph's nodes have begun."""

    def __init__(self, store: Store, began: list[str]) -> None:
        self.store = store
        self.began = began
        self.graph: Any = None
        self.acting = Acting()

    async def run(self, graph: Any = None, *, input: Any = None, **more: Any) -> Any:
        """Run the node once, as an attempt would; `more` are settings, or parts of the context."""
        names = LangGraphSettings.__struct_fields__
        settings = {name: more.pop(name) for name in list(more) if name in names}
        self.graph = graph or self.graph
        self.acting = Acting(self.store, **more)
        node = LangGraphNode(Graphs({"g": self.graph}))
        settings = LangGraphSettings("g", input={"notes": ["in"]} if input is None else input, **settings)
        return await node.run(settings, self.acting)


def play(test: Callable[[Place], Awaitable[None]], url: str = "memory://") -> None:
    async def run() -> None:
        store = open_store(url)
        await store.open()
        try:
            await test(Place(store, []))
        finally:
            await store.close()

    asyncio.run(run())


def graph_of(place: Place, *edges: tuple[str, str], **nodes: Callable[..., Any]) -> Any:
    """A compiled graph whose nodes note that they begin."""
    graph = StateGraph(Notes)

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        async def node(state: Notes) -> Any:
            place.began.append(name)
            result = function(state)
            result = await result if isinstance(result, Awaitable) else result
            return {"notes": [name if result is None else result]}

        return node

    for name, function in nodes.items():
        graph.add_node(name, noting(name, function))
    for one, other in edges:
        graph.add_edge(one, other)
    return graph.compile()


def chain(*names: str) -> list[tuple[str, str]]:
    return list(zip([START, *names], [*names, END], strict=True))


def nothing(_: Any) -> None:
    return None


def prompts(outcome: Any) -> dict[str, str]:
    """The keys of what is asked, by the questions."""
    assert isinstance(outcome, Outcome)
    return {ask.prompt: key for key, ask in outcome.ask.items()}


def test_the_output_is_the_graph_s_and_every_node_runs_once() -> None:
    async def test(place: Place) -> None:
        graph = graph_of(place, *chain("a", "b"), a=nothing, b=nothing)
        assert await place.run(graph) == {"notes": ["in", "a", "b"]}
        assert place.began == ["a", "b"]
        assert await place.run() == {"notes": ["in", "a", "b"]}, "only the outcome was lost: it is there"
        assert place.began == ["a", "b"]

    play(test)


def test_an_attempt_that_is_tried_again_goes_on_at_the_node_that_failed() -> None:
    async def test(place: Place) -> None:
        def breaks_once(_: Any) -> None:
            if place.began.count("b") == 1:
                raise ConnectionError("the line went dead")

        graph = graph_of(place, *chain("a", "b", "c"), a=nothing, b=breaks_once, c=nothing)
        with pytest.raises(ConnectionError):
            await place.run(graph)
        assert await place.run(attempt=2) == {"notes": ["in", "a", "b", "c"]}
        assert place.began == ["a", "b", "b", "c"]

    play(test)


def test_after_the_process_died_the_graph_goes_on_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'died.db'}"
    began: list[str] = []

    async def dies() -> None:
        store: Any = open_store(url)
        await store.open()
        place, hangs = Place(store, began), asyncio.Event()

        async def hang(_: Any) -> None:
            hangs.set()
            await asyncio.Event().wait()

        branches = [(START, "a"), ("a", "quick"), ("a", "slow"), ("quick", END), ("slow", END)]
        graph = graph_of(place, *branches, a=nothing, quick=nothing, slow=hang)
        running = asyncio.create_task(place.run(graph))
        await hangs.wait()
        while not [value for _, value in await store.shelved("r1", "") if b"\x91\xa5quick" in value]:
            await asyncio.sleep(0.001)  # until what `quick` wrote, a list of its name, is on the disk
        store.abandon()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def goes_on() -> None:
        store = open_store(url)
        await store.open()
        place = Place(store, began)
        branches = [(START, "a"), ("a", "quick"), ("a", "slow"), ("quick", END), ("slow", END)]
        graph = graph_of(place, *branches, a=nothing, quick=nothing, slow=nothing)
        assert await place.run(graph, attempt=2) == {"notes": ["in", "a", "quick", "slow"]}
        await store.close()

    asyncio.run(dies())
    assert sorted(began) == ["a", "quick", "slow"]
    asyncio.run(goes_on())
    assert sorted(began) == ["a", "quick", "slow", "slow"], "only the node that had not finished ran again"


def test_interrupts_are_questions_which_can_be_answered_one_by_one() -> None:
    async def test(place: Place) -> None:
        branches = [(START, "x"), (START, "y"), ("x", "z"), ("y", "z"), ("z", END)]
        graph = graph_of(
            place, *branches, x=lambda _: interrupt("X?"), y=lambda _: interrupt("Y?"), z=lambda _: interrupt("Z?")
        )
        asked = prompts(await place.run(graph))
        assert sorted(asked) == ["X?", "Y?"]
        left = await place.run(answers={asked["X?"]: "ex"})
        assert prompts(left) == {"Y?": asked["Y?"]}
        began = list(place.began)
        assert prompts(await place.run()) == {"Y?": asked["Y?"]}, "a call without an answer only asks again"
        assert place.began == began
        asked = {**asked, **prompts(await place.run(answers={asked["Y?"]: "why"}))}
        assert place.began.count("x") == 2, "it ran to its question, and again with the answer"
        assert await place.run(answers={asked["Z?"]: 3}) == {"notes": ["in", "ex", "why", 3]}

    play(test)


def test_an_answer_that_is_given_again_after_a_crash_answers_no_other_question() -> None:
    async def test(place: Place) -> None:
        graph = graph_of(place, *chain("a"), a=lambda _: [interrupt("Name?"), interrupt("Age?")])
        asked = prompts(await place.run(graph))
        then = prompts(await place.run(answers={asked["Name?"]: "Ann"}))
        again = prompts(await place.run(answers={asked["Name?"]: "Ann"}, attempt=2))
        assert then == again
        assert list(then) == ["Age?"]
        assert then["Age?"] != asked["Name?"]
        assert await place.run(answers={then["Age?"]: 30}) == {"notes": ["in", ["Ann", 30]]}

    play(test)


def test_a_node_that_fails_after_its_answer_has_the_answer_on_the_next_attempt() -> None:
    async def test(place: Place) -> None:
        def asks_and_breaks(_: Any) -> Any:
            answer = interrupt("Go?")
            if place.began.count("a") == 2:
                raise ConnectionError("down")
            return answer

        graph = graph_of(place, *chain("a"), a=asks_and_breaks)
        asked = prompts(await place.run(graph))
        with pytest.raises(ConnectionError):
            await place.run(answers={asked["Go?"]: "yes"})
        assert await place.run(answers={asked["Go?"]: "yes"}, attempt=2) == {"notes": ["in", "yes"]}

    play(test)


def test_what_an_interrupt_says_becomes_prompt_form_and_addressees() -> None:
    async def test(place: Place) -> None:
        said = [
            {"question": "Publish?", "draft": "…", "form": {"type": "boolean"}, "who": "ann"},
            {"price": 3},
            7,
            {"prompt": "Who?", "who": ["ann", "bob"], "schema": {"type": "string"}},
        ]
        names = [f"n{number}" for number in range(len(said))]
        graph = graph_of(
            place,
            *((START, name) for name in names),
            **{name: lambda _, value=value: interrupt(value) for name, value in zip(names, said, strict=True)},
        )
        outcome = await place.run(graph)
        found = sorted((ask.prompt, ask.form, ask.who) for ask in outcome.ask.values())
        assert found == [
            ("7", None, ()),
            ('Publish?\n\n{\n  "draft": "…"\n}', {"type": "boolean"}, ("ann",)),
            ("Who?", {"type": "string"}, ("ann", "bob")),
            ('{\n  "price": 3\n}', None, ()),
        ]

    play(test)


def test_interrupts_of_a_subgraph_are_asked_and_answered() -> None:
    async def test(place: Place) -> None:
        inner = graph_of(place, *chain("before", "asks"), before=nothing, asks=lambda _: interrupt("Inner?"))
        outer = StateGraph(Notes)
        outer.add_node("inner", inner)
        outer.add_edge(START, "inner")
        outer.add_edge("inner", END)
        asked = prompts(await place.run(outer.compile()))
        output = await place.run(answers={asked["Inner?"]: "yes"})
        assert output["notes"][-2:] == ["before", "yes"]
        assert place.began == ["before", "asks", "asks"]

    play(test)


def test_an_edited_input_begins_the_graph_anew_and_says_so() -> None:
    async def test(place: Place) -> None:
        graph = graph_of(place, *chain("a"), a=nothing)
        await place.run(graph)
        assert await place.run(input={"notes": ["other"]}) == {"notes": ["other", "a"]}
        assert place.began == ["a", "a"]
        assert any("anew" in line for line, _ in place.acting.lines)

    play(test)


def test_steps_and_runs_have_threads_of_their_own() -> None:
    async def test(place: Place) -> None:
        graph = graph_of(place, *chain("a"), a=nothing)
        for where in ({"run_id": "r1"}, {"run_id": "r2"}, {"run_id": "r2", "step": "each:2/agent#1"}):
            assert await place.run(graph, **where) == {"notes": ["in", "a"]}
        assert place.began == ["a", "a", "a"]
        assert await place.store.shelf_owners() == ["r1", "r2"]

    play(test)


def test_a_fork_that_was_made_while_a_question_was_open_goes_on_with_its_own_answer() -> None:
    async def test(place: Place) -> None:
        graph = graph_of(place, *chain("a", "b"), a=nothing, b=lambda _: interrupt("Go?"))
        outcome = await place.run(graph)
        key = prompts(outcome)["Go?"]
        forked = await place.run(run_id="fork", state=outcome.state, answers={key: "other way"})
        assert forked == {"notes": ["in", "a", "other way"]}
        assert await place.run(state=outcome.state, answers={key: "this way"}) == {"notes": ["in", "a", "this way"]}
        assert place.began.count("a") == 1
        late = await place.run(run_id="late", state=outcome.state, answers={key: "too late"})
        assert list(prompts(late)) == ["Go?"], "the first run has gone on: its place is not to be had, so it asks again"

    play(test)


class Speaker(GenericFakeChatModel):
    """A model that says words one by one, and at the end what they took."""

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        last = AIMessageChunk(
            "", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}, chunk_position="last"
        )
        for message in (AIMessageChunk("one "), AIMessageChunk("two "), AIMessageChunk("three"), last):
            yield ChatGenerationChunk(message=message)


def test_what_models_say_is_streamed_and_counted_as_they_say() -> None:
    async def test(place: Place) -> None:
        model = Speaker(messages=iter([]))
        graph = StateGraph(MessagesState)
        graph.add_node("talk", lambda state: {"messages": [model.invoke(state["messages"])]})
        graph.add_edge(START, "talk")
        output = await place.run(graph.compile(), input={"messages": [{"role": "user", "content": "Hi"}]})
        assert place.acting.text == "one two three"
        assert place.acting.chunks[:2] == ["one ", "two "]
        assert place.acting.usage == {"tokens": 10, "prompt_tokens": 7, "completion_tokens": 3}
        assert [(one["type"], one["content"]) for one in output["messages"]] == [
            ("human", "Hi"),
            ("ai", "one two three"),
        ]

    play(test)


def test_a_model_that_does_not_count_is_counted_by_an_estimate_that_says_so() -> None:
    async def test(place: Place) -> None:
        model = GenericFakeChatModel(messages=iter([AIMessage("12345678 12345678")]))
        graph = StateGraph(MessagesState)
        graph.add_node("talk", lambda state: {"messages": [HumanMessage("no model"), model.invoke(state["messages"])]})
        graph.add_edge(START, "talk")
        await place.run(graph.compile(), input={"messages": [{"role": "user", "content": "Hi"}]})
        assert place.acting.text == "12345678 12345678"
        assert place.acting.usage["estimated_tokens"] == place.acting.usage["tokens"] == 5

    play(test)


def test_updates_and_what_nodes_write_are_lines_of_the_log_as_far_as_they_are_wanted() -> None:
    async def test(place: Place) -> None:
        def writes(_: Any) -> None:
            get_stream_writer()({"seen": 3})

        graph = graph_of(place, *chain("a"), a=writes)
        await place.run(graph)
        assert place.acting.lines == [
            ("g: custom", {"namespace": "", "data": '{"seen":3}'}),
            ("g: a", {"namespace": "", "node": "a", "update": '{"notes":["a"]}'}),
        ]
        await place.run(run_id="quiet", stream=())
        assert place.acting.lines == []
        await place.run(run_id="half", stream=("custom",))
        assert [line for line, _ in place.acting.lines] == ["g: custom"]

    play(test)


def test_the_graph_gets_its_configuration_and_context() -> None:
    async def test(place: Place) -> None:
        graph = StateGraph(Notes, context_schema=dict)

        def node(_: Any, config: Any, runtime: Any) -> Any:
            return {"notes": [config["configurable"]["mood"], runtime.context["tone"]]}

        node.__annotations__ = {"config": "RunnableConfig", "runtime": "Runtime"}
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        output = await place.run(graph.compile(), config={"configurable": {"mood": "good"}}, context={"tone": "C"})
        assert output == {"notes": ["in", "good", "C"]}

    play(test)


def test_a_limit_of_the_configuration_ends_an_endless_graph() -> None:
    async def test(place: Place) -> None:
        graph = graph_of(place, (START, "a"), ("a", "b"), ("b", "a"), a=nothing, b=nothing)
        with pytest.raises(RecursionError):
            await place.run(graph, config={"recursion_limit": 4})
        assert len(place.began) == 4

    play(test)


def test_the_graph_and_the_configuration_are_checked_when_a_definition_is_compiled() -> None:
    found: list[tuple[str, str]] = []
    place = Place(None, [])  # type: ignore[arg-type]  # nothing runs
    node = LangGraphNode(Graphs({"agent": graph_of(place, *chain("a"), a=nothing)}))
    node.check({"graph": "agent", "config": {"recursion_limit": 3}}, lambda *said: found.append(said))
    node.check({"graph": "{{ input.graph }}", "config": "{{ input.config }}"}, lambda *said: found.append(said))
    LangGraphNode().check({"graph": "unknown where nobody registers"}, lambda *said: found.append(said))
    assert found == []
    config = {"configurable": {"thread_id": "mine"}, "callbacks": []}
    node.check({"graph": "agend", "config": config}, lambda *said: found.append(said))
    assert [setting for setting, _ in found] == ["graph", "config", "config"]
    assert "'agent'" in found[0][1]
    assert "callbacks" in found[1][1]
    assert "thread_id" in found[2][1]


def test_only_compiled_graphs_that_do_not_stop_by_themselves_are_registered() -> None:
    graph = StateGraph(Notes)
    graph.add_node("a", nothing)
    graph.add_edge(START, "a")
    graphs = Graphs()
    for wrong, mentions in ((graph, "compile"), (7, "int"), (graph.compile(interrupt_before=["a"]), "interrupt")):
        with pytest.raises(DefinitionError, match=mentions):
            graphs.add("agent", wrong)
    with pytest.raises(DefinitionError, match="registered are: none"):
        graphs.get("agent")
    graphs.add("agent", graph.compile())
    assert graphs.names() == ["agent"]
    assert graphs.remove("agent")
    assert not graphs.remove("agent")
