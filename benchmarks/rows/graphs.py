"""Graphs: nodes in a row, side by side and every which way, messages through pure nodes, maps, and graphs of others."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import workloads
from benchmarks.machine import MEGABYTE, peak_bytes
from stepwell import Stepwell, task
from stepwell.authoring.graph import GraphWorkflow, graph_workflow

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "graph"))

PASSES = 3
"""How often a graph of up to a thousand nodes is run in one process; its sample is their median."""

NEAR = 50
"""How far back the nodes of a random graph reach for those before them."""

AT_ONCE = 100
"""How many messages are on their way through a pipeline at once, and how many items of a map are."""

Nodes = dict[str, Any]


def _node(number: int, *needs: int) -> Nodes:
    node: Nodes = {"task": "noop", "inputs": {"number": number}}
    return {**node, "needs": [f"n{one}" for one in needs]} if needs else node


def _chain(size: int) -> Nodes:
    return {f"n{n}": _node(n, *([n - 1] if n else [])) for n in range(size)}


def _fan(size: int) -> Nodes:
    return {f"n{n}": _node(n, *([0] if n else [])) for n in range(size)}


def _random(size: int) -> Nodes:
    """A directed acyclic graph: each node needs one to three of the fifty before it."""
    chance = random.Random(size)
    nodes = {}
    for n in range(size):
        before = range(max(0, n - NEAR), n)
        nodes[f"n{n}"] = _node(n, *chance.sample(before, min(len(before), chance.randint(1, 3))))
    return nodes


def _compiled(name: str, nodes: Nodes) -> tuple[GraphWorkflow, float]:
    source = {"stepwell": 1, "id": name, "nodes": nodes, "result": {"nodes": len(nodes)}}
    started = time.perf_counter()
    graph = graph_workflow(source, tasks=[workloads.noop])
    return graph, time.perf_counter() - started


async def _runs(url: str, nodes: Nodes) -> dict[str, float]:
    graph, compiling = _compiled("measured", nodes)
    warm, _ = _compiled("warm", _chain(20))
    seconds: list[float] = []
    async with Stepwell(url, tasks=[workloads.noop]) as app:
        await (await app.start(warm)).result()
        for _ in range(PASSES if len(nodes) <= 1000 else 1):
            started = time.perf_counter()
            await (await app.start(graph)).result()
            seconds.append(time.perf_counter() - started)
    return {
        "seconds": median(seconds),
        "nodes_per_second": len(nodes) / median(seconds),
        "compile_seconds": compiling,
        "compile_node_seconds": compiling / len(nodes),
        "peak_megabytes": peak_bytes() / MEGABYTE,
    }


async def graph_chain(folder: Path, size: int) -> dict[str, float]:
    """`size` nodes, each needing the one before, in the memory store."""
    return await _runs("memory://", _chain(size))


async def graph_chain_sqlite(folder: Path, size: int) -> dict[str, float]:
    """The same on SQLite."""
    return await _runs(f"sqlite:///{folder / 'store.db'}", _chain(size))


async def graph_fan(folder: Path, size: int) -> dict[str, float]:
    """One node, and then all others at once, in the memory store."""
    return await _runs("memory://", _fan(size))


async def graph_fan_sqlite(folder: Path, size: int) -> dict[str, float]:
    """The same on SQLite."""
    return await _runs(f"sqlite:///{folder / 'store.db'}", _fan(size))


async def graph_random(folder: Path, size: int) -> dict[str, float]:
    """A random directed acyclic graph, in the memory store."""
    return await _runs("memory://", _random(size))


async def graph_random_sqlite(folder: Path, size: int) -> dict[str, float]:
    """The same on SQLite."""
    return await _runs(f"sqlite:///{folder / 'store.db'}", _random(size))


PIPELINE = {
    "stepwell": 1,
    "id": "messages",
    "nodes": {
        "known": {"condition": {"!!": [{"var": "input.customer.id"}]}},
        "order": {
            "transform": {
                "logic": {
                    "id": {"cat": ["o-", {"var": "input.id"}]},
                    "total": {"*": [{"var": "input.price"}, {"var": "input.count"}]},
                    "customer": {"var": "input.customer.name"},
                },
            },
            "needs": "known:true",
        },
        "size": {
            "switch": {
                "cases": [
                    {"port": "large", "when": {">": [{"var": "order.total"}, 1000]}},
                    {"port": "small", "when": {"<": [{"var": "order.total"}, 10]}},
                ]
            },
            "needs": "order",
        },
        "checked": {"transform": {"value": {"queue": "people", "order": "{{ order }}"}}, "needs": "size:large"},
        "passed": {
            "transform": {"value": {"queue": "post", "order": "{{ order }}"}},
            "needs": ["size:small", "size:default"],
        },
    },
    "result": "{{ checked ?? passed ?? null }}",
}
"""A message is looked at, made into something else, and goes one of two ways: four nodes run of five."""


async def graph_pipeline(folder: Path, size: int) -> dict[str, float]:
    """`size` messages through pure nodes, with `durability="memory"`."""
    graph = graph_workflow(PIPELINE)
    seconds = 0.0
    async with Stepwell("memory://", workflows=[graph]) as app:

        async def send(number: int) -> Any:
            return await (await app.start(graph, _message(number), durability="memory")).result()

        await _in_turn(send, AT_ONCE)
        started = time.perf_counter()
        await _in_turn(send, size)
        seconds = time.perf_counter() - started
    return {"messages_per_second": size / seconds, "peak_megabytes": peak_bytes() / MEGABYTE}


async def graph_evaluate(folder: Path, size: int) -> dict[str, float]:
    """`size` messages through the same nodes in the caller's thread, without runs."""
    graph = graph_workflow(PIPELINE)
    async with Stepwell("memory://", drive=False) as app:
        for number in range(AT_ONCE):
            app.evaluate(graph, _message(number))
        started = time.perf_counter()
        for number in range(size):
            app.evaluate(graph, _message(number))
        seconds = time.perf_counter() - started
    return {"messages_per_second": size / seconds, "peak_megabytes": peak_bytes() / MEGABYTE}


def _message(number: int) -> dict[str, Any]:
    customer = {"id": number % 100, "name": f"customer {number % 100}"}
    return {"id": number, "price": number % 400, "count": number % 7, "customer": customer}


async def _in_turn(send: Callable[[int], Awaitable[Any]], count: int) -> None:
    """Send so many messages, a hundred at once."""
    numbers = iter(range(count))

    async def sender() -> None:
        for number in numbers:
            await send(number)

    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))


async def graph_map(folder: Path, size: int) -> dict[str, float]:
    """One map of three nodes over `size` items, on SQLite."""
    body = {"first": _item_node(), "second": _item_node("first"), "third": _item_node("second")}
    nodes = {"each": {"map": {"count": "{{ input.items }}", "concurrency": AT_ONCE, "do": body}}}
    graph, _ = _compiled("mapped", nodes)
    async with Stepwell(f"sqlite:///{folder / 'store.db'}", tasks=[workloads.noop]) as app:
        await (await app.start(graph, items=20)).result()
        started = time.perf_counter()
        await (await app.start(graph, items=size)).result()
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "nodes_per_second": 3 * size / seconds,
        "peak_megabytes": peak_bytes() / MEGABYTE,
    }


def _item_node(*needs: str) -> Nodes:
    node: Nodes = {"task": "noop", "inputs": {"number": "{{ item }}"}}
    return {**node, "needs": list(needs)} if needs else node


@task(name="work")
async def _work(of: str, seconds: float) -> None:
    """Stands in for what a task of a scientific workflow did."""


async def graph_instances(folder: Path, size: int) -> dict[str, float]:
    """`size` scientific workflows from WfInstances at once, on SQLite, with tasks that do nothing.

    Raises:
        RuntimeError: the files are not there.
    """
    from wfformat import MISSING, instance, instances

    found = [instance(path) for path in instances()[-size:]]
    if not found:
        raise RuntimeError(MISSING)
    started = time.perf_counter()
    graphs = [graph_workflow(one.definition(), tasks=[_work]) for one in found]
    compiling = time.perf_counter() - started
    tasks = sum(len(one.parents) for one in found)
    async with Stepwell(f"sqlite:///{folder / 'store.db'}", workflows=graphs, tasks=[_work]) as app:
        started = time.perf_counter()
        runs = [await app.start(graph) for graph in graphs]
        await asyncio.gather(*(run.result() for run in runs))
        seconds = time.perf_counter() - started
    return {
        "tasks_per_second": tasks / seconds,
        "tasks": tasks,
        "compile_seconds": compiling,
        "peak_megabytes": peak_bytes() / MEGABYTE,
    }
