"""The node type `langgraph`: a compiled LangGraph graph as one node, whose interrupts people answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from stepwell.errors import DefinitionError
from stepwell.expressions.texts import is_template
from stepwell.nodes.parts.langgraph_asks import asks, line, plain, text_of
from stepwell.nodes.parts.langgraph_graphs import Graphs
from stepwell.nodes.parts.tokens import emit_counts, emit_text, estimate
from stepwell.nodes.protocol import ActionContext, NodeType, Outcome

if TYPE_CHECKING:
    from stepwell.nodes.parts.langgraph_saver import StoreSaver

Mode = Literal["messages", "updates", "custom"]

CONFIG: Final = frozenset({"configurable", "recursion_limit", "max_concurrency", "tags", "metadata", "run_name"})
OURS: Final = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns"})
"""Keys of `configurable` that lead to the thread, which is the step's own."""

INPUT: Final = "stepwell_input"
"""The metadata of every checkpoint that tell which input its thread began with."""


class LangGraphSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which graph runs, and with what.

    Attributes:
        graph: the name under which the program has registered the compiled graph.
        input: the graph's input.
        config: LangGraph's own configuration: `configurable`, `recursion_limit`, `max_concurrency`, `tags`,
            `metadata`, `run_name`.
        context: the graph's runtime context.
        stream: what is heard of it while it runs: `messages` (the text of models, as it comes, in the run's stream),
            `updates` and `custom` (lines in its log).
    """

    graph: str
    input: Any = {}  # Any: JSON
    config: dict[str, Any] = {}  # Any: JSON
    context: Any = None  # Any: JSON
    stream: tuple[Mode, ...] = ("messages", "updates", "custom")


class LangGraphNode(NodeType):
    """Runs a compiled LangGraph graph that the program has registered, as `Stepwell(node_types=[…])` is told with
    `LangGraphNode({"support-agent": graph})` of `stepwell.nodes.langgraph`.

    Its checkpoints are in the store, each written before the graph goes on. After a crash, or when an attempt is tried
    again, the graph goes on where it was: its nodes that had finished are not run again. Each `interrupt()` becomes an
    input request; when it is answered the graph goes on, and LangGraph then runs the node that asked from its start,
    with the answer. A graph whose input was edited begins anew.

    Needs `pip install "stepwell[langgraph]"`.

    Ports: `out`.
    Output: the graph's output; messages and models as JSON.

    Example:
        ```yaml
        agent:
          langgraph: {graph: support-agent, input: {messages: [{role: user, content: "{{ input.question }}"}]}}
          retry: 3
        ```
    """

    name = "langgraph"
    summary = "Run a compiled LangGraph graph; its interrupts are asked of people."
    kind = "action"
    Settings = LangGraphSettings
    main = "graph"

    def __init__(self, graphs: Graphs | Mapping[str, Any] | None = None) -> None:  # Any: LangGraph's Pregel
        """With the graphs that nodes may name; without, none runs, and names are not checked.

        `graphs` can be added to and taken from while an engine runs.
        """
        self.graphs = graphs if isinstance(graphs, Graphs) or graphs is None else Graphs(graphs)

    def check(self, settings: Mapping[str, Any], say: Callable[[str, str], None]) -> None:  # Any: JSON
        """The graph is registered, and the configuration leaves the thread alone."""
        graph, config = settings.get("graph"), settings.get("config")
        is_known = self.graphs is None or not isinstance(graph, str) or is_template(graph)
        if self.graphs is not None and not is_known and graph not in self.graphs.names():
            say("graph", self.graphs.unknown(str(graph)))
        if isinstance(config, Mapping):
            for problem in _problems(config):
                say("config", problem)

    async def run(self, settings: LangGraphSettings, context: ActionContext) -> object:
        """Let the graph go on from where it is; gives its output, or asks what it asks.

        Raises:
            DefinitionError: the graph is not registered, LangGraph is not installed, or the configuration is wrong.
        """
        graph = (self.graphs or Graphs()).get(settings.graph)
        for problem in _problems(settings.config):
            raise DefinitionError(f"step {context.step}: config: {problem}")
        try:
            from stepwell.nodes.parts.langgraph_saver import StoreSaver
        except ImportError as error:
            raise DefinitionError(
                f"step {context.step}: LangGraph is needed ({error}): pip install 'stepwell[langgraph]'"
            ) from error
        return await _Thread(graph, StoreSaver(context.shelf), settings, context).go_on()


class _Thread:
    """The graph's thread of one step, which outlives attempts and questions."""

    def __init__(self, graph: Any, saver: StoreSaver, settings: LangGraphSettings, context: ActionContext) -> None:
        self._graph = graph.copy({"checkpointer": saver})  # Any above: LangGraph's Pregel
        self._saver = saver
        self._settings = settings
        self._context = context
        self._id = f"{context.run_id}|{context.step}"
        digest = hashlib.sha256(msgspec.json.encode(settings.input, order="sorted")).hexdigest()[:32]
        given = settings.config
        self._config = {
            **given,
            "configurable": {**given.get("configurable", {}), "thread_id": self._id},
            "metadata": {**given.get("metadata", {}), INPUT: digest},
        }
        self._input = digest

    async def go_on(self) -> object:
        """Run the graph until it has ended or asks; what it did before is not done again."""
        from langgraph.types import Command

        state = await self._state()
        argument: object
        if state is None:
            argument = self._settings.input
        else:
            waiting = {one.id for one in state.interrupts}
            answers = {id: value for id, value in self._context.answers.items() if id in waiting}
            if answers:
                argument = Command(resume=answers)
            elif not state.next:  # it had ended, and only this node's outcome was lost
                return self._output(state)
            elif waiting and len(state.next) <= sum(1 for task in state.tasks if task.interrupts):
                return self._asking(state)  # nothing else is left to do in it
            else:
                argument = None
        await self._stream(argument)
        state = await self._graph.aget_state(self._config)
        if state.interrupts:
            return self._asking(state)
        if state.next:
            raise DefinitionError(
                f"step {self._context.step}: graph {self._settings.graph!r} stopped before {', '.join(state.next)} "
                "without a question: call interrupt() in the node instead of compiling with interrupt_before or _after"
            )
        return self._output(state)

    async def _state(self) -> Any:  # LangGraph's StateSnapshot, or None: the thread is to begin
        saved = await self._saver.aget_tuple(self._config)
        if saved is not None and saved.metadata.get(INPUT) != self._input:
            self._context.log("the graph begins anew: its input has changed", {"graph": self._settings.graph})
            await self._saver.adelete_thread(self._id)
            saved = None
        if saved is None:
            return await self._taken_over()
        return await self._graph.aget_state(self._config)

    async def _taken_over(self) -> Any:  # as above
        """The thread of the run that this one was forked from, if it still stands where the questions were asked."""
        origin = self._context.state
        if not isinstance(origin, Mapping) or not self._context.answers or origin.get("thread") in (None, self._id):
            return None
        there = await self._saver.aget_tuple({"configurable": {"thread_id": origin["thread"]}})
        if there is None or there.config["configurable"]["checkpoint_id"] != origin.get("checkpoint"):
            return None
        if there.metadata.get(INPUT) != self._input:
            return None
        await self._saver.acopy_thread(origin["thread"], self._id)
        state = await self._graph.aget_state(self._config)
        if self._context.answers.keys() <= {one.id for one in state.interrupts}:
            return state
        await self._saver.adelete_thread(self._id)
        return None

    def _asking(self, state: Any) -> Outcome:  # Any: LangGraph's StateSnapshot
        checkpoint = state.config["configurable"]["checkpoint_id"]
        return Outcome(ask=asks(state.interrupts), state={"thread": self._id, "checkpoint": checkpoint})

    def _output(self, state: Any) -> Any:  # Any: LangGraph's StateSnapshot in, JSON out
        values, channels = state.values, self._graph.output_channels
        if not isinstance(channels, str):
            return plain({name: values[name] for name in channels if name in values})
        return plain(values.get(channels, values) if isinstance(values, Mapping) else values)

    async def _stream(self, argument: object) -> None:
        settings, heard = self._settings, _Heard(self._settings.graph, self._context)
        more = {} if settings.context is None else {"context": settings.context}
        # With nothing to hear of, updates are what costs least; they are dropped.
        modes = list(settings.stream) or ["updates"]
        stream = self._graph.astream(
            argument, self._config, stream_mode=modes, subgraphs=True, durability="sync", **more
        )
        try:
            async with aclosing(stream) as parts:
                async for namespace, mode, data in parts:
                    if mode in settings.stream:
                        await heard.take(namespace, mode, data)
        finally:
            await heard.count()


class _Heard:
    """What is heard of a graph while it runs, handed on."""

    def __init__(self, graph: str, context: ActionContext) -> None:
        self._graph = graph
        self._context = context
        self._letters: dict[str, int] = {}
        self._usage: dict[str, Counter[str]] = {}

    async def take(self, namespace: tuple[str, ...], mode: str, data: Any) -> None:  # Any: as LangGraph says it
        """Hand on one piece."""
        self._context.heartbeat()
        if mode == "messages":
            await self._message(data[0])
            return
        path = "/".join(part.partition(":")[0] for part in namespace)
        if mode == "custom":
            self._context.log(f"{self._graph}: custom", {"namespace": path, "data": line(data)})
            return
        for node, update in data.items():
            if not node.startswith("__"):
                self._context.log(f"{self._graph}: {node}", {"namespace": path, "node": node, "update": line(update)})

    async def _message(self, message: Any) -> None:  # Any: a message of LangChain
        id = str(message.id)
        if isinstance(usage := getattr(message, "usage_metadata", None), dict):
            counts = Counter({name: count for name, count in usage.items() if isinstance(count, int)})
            is_part = message.type == "AIMessageChunk"  # parts say what came with them, a whole message says it all
            self._usage[id] = self._usage.get(id, Counter()) + counts if is_part else counts
        if text := text_of(message):
            self._letters[id] = self._letters.get(id, 0) + len(text)
            await emit_text(self._context, text)

    async def count(self) -> None:
        """Count what the models used: as they say, else an estimate of what they wrote."""
        for usage in self._usage.values():
            prompt, completion = usage["input_tokens"], usage["output_tokens"]
            total = usage["total_tokens"] or prompt + completion
            await emit_counts(self._context, prompt, completion, total, estimated=False)
        wrote = estimate(sum(size for id, size in self._letters.items() if id not in self._usage))
        if wrote:
            await emit_counts(self._context, 0, wrote, wrote, estimated=True)


def _problems(config: Mapping[str, Any]) -> list[str]:  # Any: JSON
    """What is wrong with a configuration."""
    found = [
        f"there is no {key!r} to set; there are: {', '.join(sorted(CONFIG))}" for key in config if key not in CONFIG
    ]
    configurable = config.get("configurable", {})
    if not isinstance(configurable, Mapping):
        return found if is_template(configurable) else [*found, "configurable must be a mapping"]
    ours = sorted(OURS.intersection(configurable))
    return [*found, f"configurable.{ours[0]} belongs to the step, whose thread it is: leave it out"] if ours else found


TYPE = LangGraphNode()
