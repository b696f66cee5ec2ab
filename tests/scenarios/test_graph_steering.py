"""What is done to runs of graphs: paused, closed, retried, forked, cancelled, patched, expanded, kept and not kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from patience import until
from virtually import SECOND, Virtual

from stepwell import Expand, Outcome, ctx, graph_workflow, task
from stepwell.engine.limits import Limits
from stepwell.errors import ArgumentError, RequestRefused, RunCancelled, RunFailed, RunSetAside, WrongStatus
from stepwell.graph.problems import InvalidDefinition
from stepwell.model.entries import DefinitionPatched, StepCompleted, StepStarted
from stepwell.stores.memory import MemoryData
from stepwell.stores.protocol import Filter

Play = Callable[..., Any]


def graph(nodes: str, more: str = "", id: str = "g") -> Any:
    return graph_workflow(f"stepwell: 1\nid: {id}\n{more}\nnodes:\n{nodes}")


async def is_(app: Any, id: str, *status: str) -> bool:
    return (await app.get(id)).status in status


class Shop:
    """A task `do` that notes what it was given, and fails for what is `broken`."""

    def __init__(self) -> None:
        self.did: list[Any] = []
        self.broken: set[Any] = set()
        self.held: dict[Any, asyncio.Event] = {}

    @property
    def task(self) -> Any:
        @task(name="do")
        async def do(what: Any) -> Any:
            self.did.append(what)
            if what in self.held:
                await self.held[what].wait()
            if what in self.broken:
                raise ValueError(f"{what} is broken")
            return f"<{what}>"

        return do

    def hold(self, *what: Any) -> None:
        """Let attempts with these wait until they are let go."""
        self.held = {one: asyncio.Event() for one in what}


MAP = graph(
    """
  first: {task: do, inputs: {what: first}}
  each:
    map: [1, 2, 3, 4]
    concurrency: 2
    needs: first
    do:
      a: {task: do, inputs: {what: "a{{ item }}"}}
      b: {task: do, inputs: {what: "b{{ item }}"}, needs: a}
  last: {transform: "{{ each.results }}", needs: each}
"""
)


# -- pausing and closing -----------------------------------------------------------------------------------------------


def test_a_map_that_is_paused_in_its_middle_ends_what_is_in_flight_and_goes_on_when_resumed(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.hold("b1", "a2")
        async with make(tasks=[shop.task]) as app:
            run = await app.start(MAP, id="r")
            await until(lambda: {"b1", "a2"} <= set(shop.did))
            await run.pause(reason="lunch")
            await until(lambda: is_(app, "r", "paused"))
            for event in shop.held.values():
                event.set()
            await until(lambda: _completed(app, "r", 4))
            assert shop.did == ["first", "a1", "a2", "b1"]
        async with make(tasks=[shop.task]) as app:  # another process: the pause is kept
            assert (await app.get("r")).status == "paused"
            await app.resume("r")
            assert await app.handle("r").result() == ["<b1>", "<b2>", "<b3>", "<b4>"]
            assert Counter(shop.did) == Counter(["first", *(f"{x}{n}" for x in "ab" for n in range(1, 5))])

    play(scenario)


async def _completed(app: Any, id: str, count: int) -> bool:
    entries = [stored.entry for stored in await app.entries(id)]
    return sum(isinstance(entry, StepCompleted) for entry in entries) >= count


def test_a_process_that_closes_in_the_middle_of_a_map_leaves_it_to_the_next(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.hold("b2")
        async with make(tasks=[shop.task], grace=0) as app:
            await app.start(MAP, id="r")
            await until(lambda: shop.did.count("b4") + shop.did.count("b2") == 2)
            await until(lambda: _completed(app, "r", 8))
        shop.held.clear()
        async with make(tasks=[shop.task]) as app:
            assert await app.handle("r").result() == ["<b1>", "<b2>", "<b3>", "<b4>"]
            assert shop.did.count("b2") == 2
            assert len(shop.did) == 10

    play(scenario)


# -- retrying ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "broken", "again", "result"),
    [
        pytest.param(
            "  e: {map: [1, 2, 3], concurrency: 1, do: {a: {task: do, inputs: {what: 'x{{ item }}'}}}}\n"
            "  z: {transform: '{{ e.results }}', needs: e}",
            {"x2"},
            {"x2": 2, "x1": 1, "x3": 1},
            ["<x1>", "<x2>", "<x3>"],
            id="in a map item",
        ),
        pytest.param(
            "  t: {try: {do: {a: {task: do, inputs: {what: x}}}, catch: [{errors: [KeyError], do: {b: {noop: {}}}}], "
            "finally: {f: {task: do, inputs: {what: end}}}}}\n  z: {transform: '{{ t }}', needs: t}",
            {"x"},
            {"x": 2, "end": 1},
            "<x>",
            id="in a try",
        ),
        pytest.param(
            "  a: {task: do, inputs: {what: a}}\n  b: {task: do, inputs: {what: b}}\n"
            "  c: {task: do, inputs: {what: c}}\n"
            "  z: {transform: ['{{ a }}', '{{ b }}', '{{ c }}'], needs: [a, b, c]}",
            {"a", "c"},
            {"a": 2, "b": 1, "c": 2},
            ["<a>", "<b>", "<c>"],
            id="several nodes",
        ),
        pytest.param(
            "  l: {loop: {for: 3}, do: {a: {task: do, inputs: {what: 'i{{ loop.iteration }}'}}}}\n"
            "  z: {transform: '{{ l.results }}', needs: l}",
            {"i2"},
            {"i1": 1, "i2": 2, "i3": 1},
            ["<i1>", "<i2>", "<i3>"],
            id="in an iteration",
        ),
        pytest.param(
            "  p: {parallel: {branches: {x: {a: {task: do, inputs: {what: a}}}, "
            "y: {b: {task: do, inputs: {what: b}}}}}}\n"
            "  z: {transform: '{{ p }}', needs: p}",
            {"b"},
            {"a": 1, "b": 2},
            {"x": "<a>", "y": "<b>"},
            id="in a branch",
        ),
    ],
)
def test_a_run_that_failed_goes_on_when_its_task_is_mended(
    nodes: str, broken: set[str], again: dict[str, int], result: Any, play: Play
) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.broken = set(broken)
        async with make(tasks=[shop.task]) as app:
            run = await app.start(graph(nodes), id="r")
            with pytest.raises(RunFailed, match="is broken"):
                await run.result()
        shop.broken.clear()
        async with make(tasks=[shop.task]) as app:
            await app.retry("r")
            assert await app.handle("r").result() == result
            assert Counter(shop.did) == again

    play(scenario)


def test_a_failed_step_can_be_retried_with_another_input(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.broken = {"x"}
        async with make(tasks=[shop.task]) as app:
            run = await app.start(
                graph("  a: {task: do, inputs: {what: x}}\n  b: {transform: 'got {{ a }}', needs: a}")
            )
            with pytest.raises(RunFailed):
                await run.result()
            await run.retry(inputs={"a#1": {"what": "y"}})
            assert await run.result() == "got <y>"

    play(scenario)


# -- cancelling --------------------------------------------------------------------------------------------------------


UNDOING = graph(
    """
  book: {task: do, inputs: {what: book}, compensate: {u: {task: do, inputs: {what: "unbook {{ book }}"}}}}
  pay:  {task: do, inputs: {what: pay}, needs: book, compensate: {u: {task: do, inputs: {what: "repay"}}}}
  t:
    try: {do: {w: {wait_signal: go}}, finally: {f: {task: do, inputs: {what: tidy}}}}
    needs: pay
"""
)


def test_a_run_that_is_cancelled_has_its_last_words_and_undoes_its_work_across_a_restart(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.hold("repay")
        async with make(tasks=[shop.task], grace=0) as app:
            run = await app.start(UNDOING, id="r")
            await until(lambda: is_(app, "r", "waiting"))
            await run.cancel()
            await until(lambda: "repay" in shop.did)
        shop.held.clear()
        async with make(tasks=[shop.task]) as app:
            with pytest.raises(RunCancelled):
                await app.handle("r").result()
            assert shop.did == ["book", "pay", "tidy", "repay", "repay", "unbook <book>"]
            with pytest.raises(WrongStatus):
                await app.retry("r")

    play(scenario)


def test_a_deadline_that_passes_while_the_run_waits_fails_it_when_it_has_undone_its_work() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        shop = Shop()
        async with virtual.make(tasks=[shop.task]) as app:
            run = await app.start(UNDOING, deadline="1h")
            with pytest.raises(RunFailed, match=r"(?i)deadline"):
                await run.result()
            assert virtual.now == 3600 * SECOND
            assert shop.did == ["book", "pay", "tidy", "repay", "unbook <book>"]

    virtual.play(scenario())


# -- time travel -------------------------------------------------------------------------------------------------------


def test_a_run_is_forked_before_a_node_with_another_input(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        async with make(tasks=[shop.task]) as app:
            run = await app.start(MAP, id="r")
            await run.result()
            shop.did.clear()
            forked = await app.fork("r", before="each:3/b#1", input={"what": "B3"})
            assert (await forked.result())[2] == "<B3>"
            assert set(shop.did) <= {"B3", "a4", "b4", "b2"}
            assert (await app.replay(forked.id)).outcome == "ok"
            with pytest.raises(RequestRefused, match="each:9/b#1"):
                await app.fork("r", before="each:9/b#1")

    play(scenario)


def test_a_run_of_a_deployed_graph_begins_again_at_a_node_in_another_version(play: Play) -> None:
    first = """
stepwell: 1
id: deployed
nodes:
  list: {task: do, inputs: {what: list}}
  each: {map: [1, 2], needs: list, do: {image: {task: do, inputs: {what: "i{{ item }}"}}}}
  done: {transform: "{{ each.results }}", needs: each}
"""
    second = first.replace('"i{{ item }}"', '"new{{ item }}"')

    async def scenario(make: Any) -> None:
        shop = Shop()
        async with make(tasks=[shop.task]) as app:
            old = await app.deploy(first, label="1")
            await (await app.start("deployed", id="r")).result()
            new = await app.deploy(second, label="2")
            shop.did.clear()
            same = await app.rerun_from("r", "each:2/image", new_id="same")
            assert await same.result() == ["<i1>", "<i2>"]
            other = await app.rerun_from("r", "each", version="2", new_id="other")
            assert await other.result() == ["<new1>", "<new2>"]
            after = await app.rerun_from("r", "done", new_id="after")
            assert await after.result() == ["<i1>", "<i2>"]
            assert shop.did == ["i2", "new1", "new2"]
            versions = {id: (await app.state(id)).version for id in ("same", "other", "after")}
            assert versions == {"same": old.version, "other": new.version, "after": old.version}
            for wrong in ("each:7/image", "each:1/nothing", "nothing"):
                with pytest.raises((RequestRefused, ArgumentError)):
                    await app.rerun_from("r", wrong)
            assert [row.run_id for row in await app.runs(Filter(status=("failed", "stuck")))] == []
        async with make(tasks=[shop.task]) as app:
            for id in ("same", "other", "after"):
                assert (await app.replay(id)).outcome == "ok"

    play(scenario)


# -- patches -----------------------------------------------------------------------------------------------------------

GROWING = graph(
    """
  a: {task: do, inputs: {what: a}}
  w: {wait_signal: go, needs: a}
  skipped: {task: do, inputs: {what: skipped}, if: false}
  z: {task: do, inputs: {what: z}, needs: w}
""",
    id="growing",
)


def test_nodes_are_added_to_a_run_after_what_is_done_and_before_what_is_not(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        async with make(tasks=[shop.task]) as app:
            await app.start(GROWING, id="r")
            await until(lambda: is_(app, "r", "waiting"))
            await app.patch("r", {"more": {"task": "do", "inputs": {"what": "more {{ a }}"}, "needs": "a"}}, by="ann")
            await until(lambda: "more <a>" in shop.did)
            late = {"task": "do", "inputs": {"what": "late {{ w }}"}, "needs": "w"}
            await app.patch("r", [{"id": "late", **late}], [{"from": "late", "to": "z"}])
            with pytest.raises(InvalidDefinition, match="there is a node 'late' already"):
                await app.patch("r", {"late": late})
            with pytest.raises(InvalidDefinition, match="nowhere"):
                await app.patch("r", {"x": {"noop": {}, "needs": "nowhere"}})
            await until(lambda: _patched(app, "r", 2))
        async with make(tasks=[shop.task]) as app:  # the run's own definition is in its journal
            await app.signal("r", "go", "now")
            await app.handle("r").result()
            assert shop.did == ["a", "more <a>", "late now", "z"]
            assert (await app.replay("r")).outcome == "ok"
            fresh = await app.start(GROWING, id="other")
            await app.signal("other", "go")
            await fresh.result()
            assert shop.did[4:] == ["a", "z"]  # other runs have nothing of it
            shop.did.clear()
            again = await app.rerun_from("r", "late")
            await again.result()
            assert shop.did == ["late now", "z"]

    play(scenario)


async def _patched(app: Any, id: str, times: int) -> bool:
    entries = [stored.entry for stored in await app.entries(id)]
    return len([entry for entry in entries if isinstance(entry, DefinitionPatched)]) == times


def test_patches_of_a_run_that_nobody_drives_come_one_on_top_of_the_other(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        async with make(tasks=[shop.task]) as app:
            await app.start(GROWING, id="r")
            await until(lambda: is_(app, "r", "waiting"))
        async with make(drive=False) as client:
            one = {"one": {"task": "do", "inputs": {"what": "one {{ a }}"}, "needs": "a"}}
            await client.patch("r", one)
            await client.patch("r", {"two": {"task": "do", "inputs": {"what": "two {{ one }}"}, "needs": "one"}})
            with pytest.raises(InvalidDefinition, match="there is a node 'one' already"):
                await client.patch("r", one)
            with pytest.raises(RequestRefused, match="node w has begun"):
                await client.patch("r", {"x": {"noop": {}}}, [{"from": "x", "to": "w"}])
        async with make(tasks=[shop.task]) as app:
            await until(lambda: "two <one <a>>" in shop.did)
            await app.signal("r", "go")
            await app.handle("r").result()
            assert shop.did == ["a", "one <a>", "two <one <a>>", "z"]
            assert (await app.replay("r")).outcome == "ok"

    play(scenario)


def test_nothing_new_comes_before_what_has_begun(play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        async with make(tasks=[shop.task]) as app:
            await app.start(GROWING, id="r")
            await until(lambda: is_(app, "r", "waiting"))
            for target in ("a", "w", "skipped"):
                with pytest.raises(RequestRefused, match=f"node {target} has begun, or was skipped, already"):
                    await app.patch("r", {f"x_{target}": {"noop": {}}}, [{"from": f"x_{target}", "to": target}])
            await app.signal("r", "go")
            await app.handle("r").result()
            entries = [stored.entry for stored in await app.entries("r")]
            assert not [entry for entry in entries if isinstance(entry, DefinitionPatched)]
            assert shop.did == ["a", "z"]
            with pytest.raises(WrongStatus):
                await app.patch("r", {"x": {"noop": {}}})

    play(scenario)


# -- expansions and outcomes -------------------------------------------------------------------------------------------


@task
async def plan(depth: int, names: list[str]) -> Expand:
    """A sub-graph that does all of these, and below `depth` plans another one."""
    nodes: dict[str, Any] = {name: {"task": "do", "inputs": {"what": f"{name}{{{{ depth }}}}"}} for name in names}
    if depth:
        inputs = {"depth": depth - 1, "names": names}
        nodes["deeper"] = {"task": "plan", "inputs": inputs, "needs": names}
    inside = "{{ deeper }}" if depth else None
    nodes["end"] = {"transform": {"d": "{{ depth }}", "in": inside}, "needs": "deeper" if depth else names}
    return Expand(nodes=nodes, inputs={"depth": depth}, result="{{ end }}")


@task
async def wrong() -> Expand:
    return Expand(nodes={"a": {"task": "do", "needs": "nowhere"}, "b": {"type": "nonsense"}})


@task
async def way(which: str) -> Outcome:
    return Outcome({"went": which}, port=which)


def test_a_task_decides_on_a_sub_graph_that_may_decide_on_others(play: Play) -> None:
    planning = graph(
        """
  p: {task: plan, inputs: {depth: 2, names: [x, y]}}
  z: {transform: "{{ p }}", needs: p}
"""
    )

    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.hold("y1")
        async with make(tasks=[shop.task, plan], grace=0) as app:
            await app.start(planning, id="r")
            await until(lambda: _completed(app, "r", 5))
        shop.held.clear()
        async with make(tasks=[shop.task, plan]) as app:
            expected = {"d": 2, "in": {"d": 1, "in": {"d": 0, "in": None}}}
            assert await app.handle("r").result() == expected
            assert Counter(shop.did) == {"x2": 1, "y2": 1, "x1": 1, "y1": 2, "x0": 1, "y0": 1}
            started = [s.entry for s in await app.entries("r") if isinstance(s.entry, StepStarted)]
            assert len([entry for entry in started if entry.path.name == "p"]) == 1
            assert (await app.replay("r")).outcome == "ok"

    play(scenario)


def test_a_sub_graph_with_problems_fails_its_node_with_all_of_them(play: Play) -> None:
    bad = graph(
        "  w: {task: wrong}\n  sorry: {transform: '{{ w.error.message }}', needs: 'w:error'}",
        "result: '{{ sorry ?? null }}'",
    )

    async def scenario(make: Any) -> None:
        async with make(tasks=[wrong]) as app:
            said = await app.run(bad)
            assert "nowhere" in said
            assert "nonsense" in said

    play(scenario)


def test_a_task_says_by_which_port_its_node_is_left(play: Play) -> None:
    ways = graph(
        """
  w: {task: way, inputs: {which: "{{ input.which }}"}}
  l: {transform: "left {{ w.went }}", needs: "w:left"}
  r: {transform: "right {{ w.went }}", needs: "w:right"}
""",
        "result: {l: '{{ l ?? null }}', r: '{{ r ?? null }}'}",
    )

    async def scenario(make: Any) -> None:
        async with make(tasks=[way]) as app:
            assert await app.run(ways, which="left") == {"l": "left left", "r": None}
            assert await app.run(ways, which="right") == {"l": None, "r": "right right"}
            with pytest.raises(RunFailed, match="node w was left by port 'up', and no edge leads from there"):
                await app.run(ways, which="up")

    play(scenario)


# -- durability, limits, two engines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["async", "exit", "memory"])
def test_a_graph_runs_under_every_durability(durability: Any, play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        async with make(tasks=[shop.task], limits=Limits(attempts=2, runs=1)) as app:
            run = await app.start(MAP, id="r", durability=durability)
            assert await run.result() == ["<b1>", "<b2>", "<b3>", "<b4>"]
            assert len(shop.did) == 9
            assert (await run.state()).durability == durability
            await app.deploy("stepwell: 1\nid: named\nnodes: {a: {transform: 1}}\n")
            assert await (await app.start("named", durability=durability)).result() == 1

    play(scenario)


@pytest.mark.parametrize("durability", ["async", "exit"])
def test_a_graph_that_is_cut_off_ends_with_the_same_result(durability: Any, play: Play) -> None:
    async def scenario(make: Any) -> None:
        shop = Shop()
        shop.hold("b3")
        async with make(tasks=[shop.task], grace=0) as app:
            await app.start(MAP, id="r", durability=durability)
            await until(lambda: "b3" in shop.did)
        shop.held.clear()
        async with make(tasks=[shop.task]) as app:
            assert await app.handle("r").result() == ["<b1>", "<b2>", "<b3>", "<b4>"]

    play(scenario)


def test_two_engines_of_two_stores_in_one_process_have_nothing_of_each_other(play: Play) -> None:
    one = "stepwell: 1\nid: shared\nnodes: {a: {task: do, inputs: {what: one}}}\n"

    async def scenario(make: Any) -> None:
        first, second = Shop(), Shop()
        second_store = _memory()
        async with make(tasks=[first.task]) as app, second_store(tasks=[second.task]) as other:
            await app.deploy(one)
            await other.deploy(one.replace("what: one", "what: two"))
            assert [*await asyncio.gather(app.run("shared"), other.run("shared"))] == ["<one>", "<two>"]
            other.remove_task("do")
            run = await other.start("shared")
            with pytest.raises(RunSetAside, match="task 'do' is not registered in this process"):
                await run.result()
            assert await app.run("shared") == "<one>"
            other.add_task(second.task)
            await until(lambda: is_(other, run.id, "completed"))
            assert (first.did, second.did) == (["one", "one"], ["two", "two"])

    play(scenario)


def _memory() -> Callable[..., Any]:
    from stepwell import Stepwell
    from stepwell.stores.memory import MemoryStore

    return lambda **settings: Stepwell(MemoryStore(MemoryData()), grace="1s", **settings)


def test_a_step_sees_its_place_in_the_graph(play: Play) -> None:
    seen: list[tuple[str, str]] = []

    @task
    async def look() -> None:
        seen.append((ctx.step, ctx.idempotency_key))

    nested = graph("  e: {map: [1, 2], concurrency: 1, do: {l: {loop: {for: 2}, do: {look: {task: look}}}}}")

    async def scenario(make: Any) -> None:
        seen.clear()
        async with make(tasks=[look]) as app:
            await (await app.start(nested, id="r")).result()
            assert [step for step, _ in seen] == [f"e:{m}/l:{n}/look#1" for m in (1, 2) for n in (1, 2)]
            assert all(key == f"r:{step}" for step, key in seen)

    play(scenario)
