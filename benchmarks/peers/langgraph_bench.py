# mypy: disable-error-code="import-not-found,untyped-decorator"
# Found only in its own virtual environment, and beside this script.
"""LangGraph with SqliteSaver, which sets its file to WAL; `sync` commits before the next super-step, `async` overlaps.

After a crash it is the application that knows which threads were under way and invokes each again; so it does here.
"""

from __future__ import annotations

import operator
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import own_venv


class Count(TypedDict):
    """How many steps are left."""

    left: int


class Gathered(TypedDict):
    """What all branches gave."""

    results: Annotated[list[dict[str, int]], operator.add]
    size: int


class One(TypedDict):
    """One branch's own input."""

    number: int
    left: int


def _saver(folder: Path) -> AbstractContextManager[Any]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    saver: AbstractContextManager[Any] = SqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite"))
    return saver


def _config(thread: object) -> dict[str, object]:
    return {"configurable": {"thread_id": str(thread)}, "recursion_limit": 100_000}


def _chain(saver: Any) -> Any:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(Count)
    graph.add_node("noop", lambda state: {"left": state["left"] - 1})
    graph.add_edge(START, "noop")
    graph.add_conditional_edges("noop", lambda state: "noop" if state["left"] else END)
    return graph.compile(checkpointer=saver)


def _branches(saver: Any, stages: int) -> Any:
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Command, Send

    def noop(one: One) -> Any:
        update = {"results": [{"number": one["number"]}]}
        if one["left"] > 1:
            return Command(update={}, goto=Send("noop", {"number": one["number"], "left": one["left"] - 1}))
        return Command(update=update, goto=END)

    graph = StateGraph(Gathered)
    graph.add_node("noop", noop)
    graph.add_conditional_edges(
        START, lambda state: [Send("noop", {"number": n, "left": stages}) for n in range(state["size"])], ["noop"]
    )
    return graph.compile(checkpointer=saver)


def chain(variant: str, folder: Path, size: int) -> float:
    """One run of `size` super-steps."""
    with _saver(folder) as saver:
        graph = _chain(saver)
        graph.invoke({"left": 3}, _config("warm"), durability=variant)
        started = time.perf_counter()
        graph.invoke({"left": size}, _config(1), durability=variant)
        return time.perf_counter() - started


def many(variant: str, folder: Path, size: int) -> float:
    """`size` runs of five super-steps, one after the other: on eight threads they took three times as long."""
    with _saver(folder) as saver:
        graph = _chain(saver)
        graph.invoke({"left": 3}, _config("warm"), durability=variant)
        started = time.perf_counter()
        for number in range(size):
            graph.invoke({"left": 5}, _config(number), durability=variant)
        return time.perf_counter() - started


def fan(variant: str, folder: Path, size: int) -> float:
    """`size` branches at once in one run."""
    return _branched(variant, folder, size, 1)


def items(variant: str, folder: Path, size: int) -> float:
    """Four steps for each of `size` branches in one run."""
    return _branched(variant, folder, size, 4)


def _branched(variant: str, folder: Path, size: int, stages: int) -> float:
    with _saver(folder) as saver:
        graph = _branches(saver, stages)
        graph.invoke({"size": 2, "results": []}, _config("warm"), durability=variant)
        started = time.perf_counter()
        result = graph.invoke({"size": size, "results": []}, _config(1), durability=variant)
        seconds = time.perf_counter() - started
    if len(result["results"]) != size:
        raise AssertionError(f"{len(result['results'])} results of {size}")
    return seconds


def _interrupted(saver: Any, wanted: int, hold: bool) -> tuple[Any, threading.Event]:
    from langgraph.graph import END, START, StateGraph

    all_held, lock, held = threading.Event(), threading.Lock(), 0

    def holding(state: Count) -> dict[str, int]:
        nonlocal held
        with lock:
            held += 1
            if held == wanted:
                all_held.set()
        if hold:
            time.sleep(3600)
        return {"left": state["left"]}

    graph = StateGraph(Count)
    graph.add_node("before", lambda state: {"left": state["left"]})
    graph.add_node("holding", holding)
    graph.add_node("after", lambda state: {"left": state["left"]})
    for one, next_one in ((START, "before"), ("before", "holding"), ("holding", "after"), ("after", END)):
        graph.add_edge(one, next_one)
    return graph.compile(checkpointer=saver), all_held


def be_killed(variant: str, folder: Path, size: int) -> None:
    """`size` runs with a step in flight each."""
    with _saver(folder) as saver:
        graph, all_held = _interrupted(saver, size, True)
        for number in range(size):
            arguments = ({"left": 1}, _config(number))
            threading.Thread(target=graph.invoke, args=arguments, kwargs={"durability": variant}, daemon=True).start()
        all_held.wait()
        print("ready", flush=True)
        time.sleep(3600)


def recover(variant: str, folder: Path, size: int) -> float:
    """Invoke each thread again, one after the other, until all have ended."""
    started = time.perf_counter()
    with _saver(folder) as saver:
        graph, all_held = _interrupted(saver, size, False)
        for number in range(size):
            graph.invoke(None, _config(number), durability=variant)
        if not all_held.is_set():
            raise AssertionError("a run did not go on from the step that was in flight")
    return time.perf_counter() - started


if __name__ == "__main__":
    own_venv.main(
        "langgraph",
        ["langgraph>=1.2,<2", "langgraph-checkpoint-sqlite>=3.1,<4"],
        ["sync", "async"],
        {"chain": chain, "many": many, "fan": fan, "items": items, "be_killed": be_killed, "recover": recover},
        {"recovery": 200},
    )
