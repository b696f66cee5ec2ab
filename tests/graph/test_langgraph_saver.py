"""Does LangGraph find its checkpoints on a store's shelves again, by its own conformance suite and by ours?"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph", reason="LangGraph is not installed: pip install 'stepwell[langgraph]'")
conformance = pytest.importorskip(
    "langgraph.checkpoint.conformance", reason="pip install langgraph-checkpoint-conformance"
)

from langgraph.graph import END, START, StateGraph  # noqa: E402

from stepwell.errors import DefinitionError  # noqa: E402
from stepwell.nodes.parts.langgraph_saver import StoreSaver  # noqa: E402
from stepwell.stores import open_store  # noqa: E402
from stepwell.stores.protocol import Store  # noqa: E402

STORES = ["memory", "sqlite"]


def place(kind: str, folder: Path) -> str:
    return "memory://" if kind == "memory" else f"sqlite:///{folder / 'saver.db'}"


@pytest.mark.parametrize("kind", STORES)
def test_the_saver_passes_langgraph_s_own_conformance_suite_whole(kind: str, tmp_path: Path) -> None:
    @conformance.checkpointer_test(name=kind)
    async def factory() -> AsyncIterator[StoreSaver]:
        store = open_store(place(kind, tmp_path))
        await store.open()
        try:
            yield StoreSaver(store)
        finally:
            await store.close()

    report = asyncio.run(conformance.validate(factory))
    found = {name: (result.passed, result.failures) for name, result in report.results.items()}
    assert found == {
        name: (True, [])
        for name in (
            "put",
            "put_writes",
            "get_tuple",
            "list",
            "delete_thread",
            "delete_for_runs",
            "copy_thread",
            "prune",
        )
    }


def on_a_store(
    test: Callable[[Store, StoreSaver], Awaitable[None]], kind: str = "memory", folder: Path = Path()
) -> None:
    async def run() -> None:
        store = open_store(place(kind, folder))
        await store.open()
        try:
            await test(store, StoreSaver(store))
        finally:
            await store.close()

    asyncio.run(run())


class Sum(TypedDict, total=False):
    total: Annotated[int, operator.add]


def adding(*amounts: int) -> Any:
    graph = StateGraph(Sum)
    names = [f"add{number}" for number in range(len(amounts))]
    for name, amount in zip(names, amounts, strict=True):
        graph.add_node(name, lambda _, amount=amount: {"total": amount})
    for one, other in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(one, other)
    return graph


def thread(name: str, **more: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name, **more}}


@pytest.mark.parametrize("kind", STORES)
def test_a_thread_s_history_is_there_for_another_saver(kind: str, tmp_path: Path) -> None:
    async def test(store: Store, saver: StoreSaver) -> None:
        graph = adding(1, 10, 100).compile(checkpointer=saver)
        assert await graph.ainvoke({"total": 1000}, thread("t")) == {"total": 1111}
        other = adding(1, 10, 100).compile(checkpointer=StoreSaver(store))
        assert [state.values.get("total") async for state in other.aget_state_history(thread("t"))] == [
            1111,
            1011,
            1001,
            1000,
            0,
        ]

    on_a_store(test, kind, tmp_path)


def test_branches_of_a_thread_keep_their_own_values() -> None:
    async def test(_: Store, saver: StoreSaver) -> None:
        graph = adding(1, 10).compile(checkpointer=saver)
        await graph.ainvoke({"total": 100}, thread("t"))
        old = [state async for state in graph.aget_state_history(thread("t"))]
        middle = next(state for state in old if state.next == ("add1",))
        changed = await graph.aupdate_state(middle.config, {"total": 5})
        assert await graph.ainvoke(None, changed) == {"total": 116}
        assert [(await graph.aget_state(state.config)).values for state in old] == [state.values for state in old]

    on_a_store(test)


def test_a_thread_called_like_a_run_is_on_the_run_s_shelf_and_others_are_on_their_own() -> None:
    async def test(store: Store, saver: StoreSaver) -> None:
        graph = adding(1).compile(checkpointer=saver)
        for name in ("r/1|each:2/agent#1", "r/1", "mine"):
            await graph.ainvoke({"total": 0}, thread(name))
            assert (await graph.aget_state(thread(name))).config["configurable"]["thread_id"] == name
        assert await store.shelf_owners() == ["mine", "r/1"]
        await saver.adelete_thread("r/1")
        assert (await graph.aget_state(thread("r/1|each:2/agent#1"))).values == {"total": 1}
        assert (await graph.aget_state(thread("r/1"))).values == {}

    on_a_store(test)


def test_odd_names_are_told_apart() -> None:
    async def test(_: Store, saver: StoreSaver) -> None:
        graph = adding(1).compile(checkpointer=saver)
        names = ["a", "a\x1f", "a%1F", "a%", "ä|\x00b", "ä|%00b"]
        for number, name in enumerate(names):
            await graph.ainvoke({"total": number}, thread(name))
        values = [(await graph.aget_state(thread(name))).values["total"] for name in names]
        assert values == [1, 2, 3, 4, 5, 6]

    on_a_store(test)


@pytest.mark.parametrize("kind", STORES)
def test_a_synchronous_graph_in_a_thread_uses_the_same_checkpoints(kind: str, tmp_path: Path) -> None:
    async def test(_: Store, saver: StoreSaver) -> None:
        graph = adding(1, 10).compile(checkpointer=saver)
        assert await asyncio.to_thread(graph.invoke, {"total": 100}, thread("t")) == {"total": 111}
        assert (await graph.aget_state(thread("t"))).values == {"total": 111}
        history = await asyncio.to_thread(lambda: list(saver.list(thread("t"), limit=2)))
        assert [one.metadata["step"] for one in history] == [2, 1]
        await asyncio.to_thread(saver.delete_thread, "t")
        assert await saver.aget_tuple(thread("t")) is None

    on_a_store(test, kind, tmp_path)


def test_a_synchronous_graph_on_the_loop_is_told_what_to_do_instead_of_hanging() -> None:
    async def test(_: Store, saver: StoreSaver) -> None:
        with pytest.raises(DefinitionError, match="ainvoke"):
            adding(1).compile(checkpointer=saver).invoke({"total": 0}, thread("t"))

    on_a_store(test)


def test_pruning_keeps_what_the_last_checkpoint_builds_its_deltas_upon() -> None:
    async def test(_: Store, saver: StoreSaver) -> None:
        def checkpoint(id: str, **values: object) -> Any:
            return {
                "v": 4,
                "id": id,
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": values,
                "channel_versions": {"deltas": id},
                "versions_seen": {},
                "updated_channels": None,
            }

        config: Any = thread("t", checkpoint_ns="")
        for id, values in (("1", {"deltas": "old"}), ("2", {"deltas": "snapshot"}), ("3", {}), ("4", {})):
            metadata: Any = {"step": int(id), "counters_since_delta_snapshot": {"deltas": (1, 1)}}
            config = await saver.aput(config, checkpoint(id, **values), metadata, {"deltas": id})
            await saver.aput_writes(config, [("deltas", f"after {id}")], "task")
        await saver.aprune(["t"])
        kept = [one.checkpoint["id"] async for one in saver.alist(thread("t"))]
        assert kept == ["4", "3", "2"]
        history = (await saver.aget_delta_channel_history(config=config, channels=["deltas"]))["deltas"]
        assert history["seed"] == "snapshot"
        assert [value for _, _, value in history["writes"]] == ["after 2", "after 3"]
        with pytest.raises(ValueError, match="sideways"):
            await saver.aprune(["t"], strategy="sideways")

    on_a_store(test)


def test_what_pruning_leaves_goes_on_and_takes_less_room() -> None:
    async def test(store: Store, saver: StoreSaver) -> None:
        graph = adding(1, 10, 100).compile(checkpointer=saver)
        await graph.ainvoke({"total": 0}, thread("t"))
        before = len(await store.shelved("t", ""))
        await saver.aprune(["t"])
        assert len(await store.shelved("t", "")) < before / 2
        assert await graph.ainvoke({"total": 1000}, thread("t")) == {"total": 1222}

    on_a_store(test)


def test_nothing_is_pickled() -> None:
    async def test(_: Store, saver: StoreSaver) -> None:
        with pytest.raises(TypeError):
            await saver.aput_writes(thread("t", checkpoint_id="1", checkpoint_ns=""), [("c", _Odd())], "task")

    on_a_store(test)


class _Odd:
    __slots__ = ()
