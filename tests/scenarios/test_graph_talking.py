"""What graphs say to the world and hear from it: signals, events, people, and the runs that they start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from patience import until
from virtually import Virtual

from stepwell import ctx, graph_workflow, task, workflow
from stepwell.errors import AnswerInvalid, NotAllowed, RunFailed, WorkflowBodyError
from stepwell.model.entries import ValueRecorded
from stepwell.stores.protocol import Filter

Play = Callable[..., Any]


def graph(nodes: str, more: str = "", id: str = "g") -> Any:
    return graph_workflow(f"stepwell: 1\nid: {id}\n{more}\nnodes:\n{nodes}")


async def is_(app: Any, id: str, *status: str) -> bool:
    return (await app.get(id)).status in status


async def waiting(app: Any, *ids: str) -> None:
    for id in ids:
        await until(lambda id=id: is_(app, id, "waiting"))


# -- signals ----------------------------------------------------------------------------------------------------------

TWICE = graph(
    """
  one: {wait_signal: word}
  two: {wait_signal: word, needs: one}
  both: {transform: ["{{ one }}", "{{ two }}"], needs: two}
"""
)


def test_signals_are_taken_in_order_whether_they_come_early_or_late(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make(drive=False) as client:
            await client.start(TWICE, id="early")
            await client.start(TWICE, id="late")
            await client.signal("early", "word", {"n": 1})
            assert await client.signal("early", "word", 2, key="k")
            assert not await client.signal("early", "word", 2, key="k")
        async with make() as app:
            assert await app.handle("early").result() == [{"n": 1}, 2]
            await waiting(app, "late")
            await app.signal("late", "other", 0)
            await app.signal("late", "word", "a")
        async with make() as app:
            await app.signal("late", "word", "b")
            assert await app.handle("late").result() == ["a", "b"]

    play(scenario)


def test_a_node_sends_signals_to_one_run_and_to_several_once(play: Play) -> None:
    sender = graph(
        """
  tell: {signal: word, to: "{{ input.first }}", payload: {n: "{{ input.n }}"}}
  all:  {signal: word, to: ["a", "b"], payload: last, needs: tell}
  wait: {wait_signal: done, needs: all}
""",
        id="sender",
    )

    async def scenario(make: Any) -> None:
        async with make() as app:
            for id in ("a", "b"):
                await app.start(TWICE, id=id)
            await app.start(sender, first="a", n=3, id="s")
            await waiting(app, "s", "b")
        async with make() as app:  # what it has said it does not say again
            assert await app.handle("a").result() == [{"n": 3}, "last"]
            await app.signal("b", "word", "by hand")
            assert await app.handle("b").result() == ["last", "by hand"]
            await app.signal("s", "done")
            await app.handle("s").result()

    play(scenario)


def test_a_signal_that_reaches_nobody_is_told_in_the_log(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.run(graph("  a: {signal: word, to: [nobody]}"))
            await until(lambda: "signal 'word' to run nobody reaches nobody: there is no such run" in caplog.text)

    play(scenario)


def test_runs_of_functions_and_graphs_signal_each_other(play: Play) -> None:
    @workflow
    async def listener() -> Any:
        return await ctx.signal("word")

    async def scenario(make: Any) -> None:
        async with make(workflows=[listener]) as app:
            run = await app.start(listener, id="l")
            await app.run(graph("  a: {signal: word, to: l, payload: [1]}"))
            assert await run.result() == [1]

    play(scenario)


# -- events -----------------------------------------------------------------------------------------------------------


def test_an_event_is_waited_for_by_what_it_says(play: Play) -> None:
    paid = graph(
        """
  one: {task: number}
  paid: {wait_event: {event: paid, where: {"==": [{var: data.order}, "{{ one }}"]}}, needs: one}
  got: {transform: {total: "{{ paid.data.total }}", type: "{{ paid.type }}"}, needs: paid}
"""
    )

    @task
    async def number() -> int:
        return 7

    async def scenario(make: Any) -> None:
        async with make(tasks=[number]) as app:
            run = await app.start(paid)
            await app.publish("paid", {"order": 6, "total": 1})
            await waiting(app, run.id)
            await app.publish("paid", {"order": 7, "total": 50})
            assert await run.result() == {"total": 50, "type": "paid"}
            early = await app.start(paid, delay="20ms")
            await app.publish("paid", {"order": 7, "total": 60})  # before it has begun to wait, after its start
            assert (await early.result())["total"] == 60

    play(scenario)


def test_one_graph_tells_another_by_an_event_and_transient_ones_are_for_those_who_wait(play: Play) -> None:
    teller = graph(
        """
  a: {emit: {event: news, data: {n: 1}, subject: shop}}
  b: {emit: {event: flash, data: {n: 2}, transient: true}, needs: a}
""",
        id="teller",
    )
    hearer = graph(
        """
  a: {wait_event: news}
  b: {wait_event: {event: flash, transient: true, timeout: 1h}}
  c: {transform: ["{{ a.data.n }}", "{{ a.subject }}", "{{ b.data.n ?? null }}"], needs: [a, b]}
""",
        id="hearer",
    )

    async def scenario(make: Any) -> None:
        async with make() as app:
            first = await app.start(hearer)
            await waiting(app, first.id)
            await app.run(teller)
            assert await first.result() == [1, "shop", 2]
            kept = [(event.topic, event.transient) for event in await app.events()]
            assert kept == [("news", False), ("flash", True)]

    play(scenario)


def test_a_wait_for_an_event_that_does_not_come_ends_at_its_time_after_a_restart() -> None:
    virtual = Virtual()
    waits = graph(
        """
  a: {wait_event: {event: news, timeout: 2h}}
  b: {transform: heard, needs: a}
  c: {transform: missed, needs: "a:timeout"}
""",
        "result: '{{ c ?? null }}'",
    )

    async def scenario() -> None:
        async with virtual.make() as app:
            await app.start(waits, id="r")
            await asyncio.sleep(60)
        await asyncio.sleep(10_000)
        async with virtual.make() as app:
            assert await app.handle("r").result() == "missed"

    virtual.play(scenario())


# -- people -----------------------------------------------------------------------------------------------------------

REVIEW = graph(
    """
  ask:
    human:
      prompt: "Publish {{ input.what }}?"
      form: {type: object, required: [ok], properties: {ok: {type: boolean}}}
      who: [ann, bob, cem]
      quorum: 2
      agree: ok
      timeout: 2h
      reminders: [1h]
  yes: {transform: "{{ ask }}", needs: ask}
  late: {transform: late, needs: "ask:timeout"}
  no: {transform: "{{ ask.error.type ?? 'withdrawn' }}", needs: "ask:error"}
""",
    "result: {yes: '{{ yes ?? null }}', late: '{{ late ?? null }}', no: '{{ no ?? null }}'}",
)


def test_two_of_three_people_must_agree_in_the_form_that_was_asked_for(play: Play) -> None:
    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.start(REVIEW, what="it", id="r")
            await waiting(app, "r")
            [question] = await app.inbox()
            assert (question.prompt, question.run_id, question.who) == ("Publish it?", "r", ("ann", "bob", "cem"))
            with pytest.raises(AnswerInvalid, match="ok"):
                await app.answer(question.id, {"yes": True}, by="ann")
            with pytest.raises(NotAllowed):
                await app.answer(question.id, {"ok": True}, by="eve")
            await app.answer(question.id, {"ok": True}, by="ann")
            await until(lambda: _has_none(app, "ann"))
        async with make() as app:  # the first answer is kept
            [question] = await app.inbox("bob")
            await app.answer(question.id, {"ok": False}, by="bob")
            await app.answer(question.id, {"ok": True}, by="cem")
            answers = (await app.handle("r").result())["yes"]
            assert [(one["by"], one["value"]["ok"]) for one in answers] == [
                ("ann", True),
                ("bob", False),
                ("cem", True),
            ]
            assert await app.inbox() == []

    play(scenario)


async def _has_none(app: Any, who: str) -> bool:
    return not await app.inbox(who)


def test_a_question_ends_by_its_time_by_disagreement_and_by_being_taken_back() -> None:
    virtual = Virtual()

    async def scenario() -> None:
        async with virtual.make() as app:
            runs = [await app.start(REVIEW, what=what, id=what) for what in ("late", "no", "back")]
            await asyncio.sleep(100)
            by_run = {one.run_id: one.id for one in await app.inbox()}
            await app.answer(by_run["no"], {"ok": False}, by="ann")
            await app.answer(by_run["no"], {"ok": False}, by="bob")
            await app.withdraw(by_run["back"], by="boss", reason="not now")
            back = await runs[2].result()
            assert (back["yes"], back["late"]) == (None, None)
            assert back["no"]
            result = await runs[1].result()  # the answers say what it came to
            assert [one["value"]["ok"] for one in result["yes"]] == [False, False]
            assert (await runs[0].result())["late"] == "late"
            assert len([event for event in await app.events() if "remind" in event.topic]) == 1

    virtual.play(scenario())


# -- child runs -------------------------------------------------------------------------------------------------------


@task
async def double(n: int) -> int:
    return n * 2


@workflow
async def doubled(n: int, by: int = 2) -> int:
    return await double(n) * by // 2


def test_a_graph_starts_functions_graphs_and_itself(play: Play) -> None:
    family = graph(
        """
  f: {workflow: {workflow: doubled, inputs: {n: 3, by: 4}}}
  g: {workflow: {workflow: inner, inputs: {n: "{{ f }}"}}, needs: f}
""",
        id="family",
    )
    inner = "stepwell: 1\nid: inner\nnodes: {a: {task: double, inputs: {n: '{{ input.n }}'}}}\n"
    down = """
stepwell: 1
id: down
nodes:
  deeper: {condition: {">": [{var: input.n}, 0]}}
  less: {task: less, inputs: {n: "{{ input.n }}"}, needs: "deeper:true"}
  again: {workflow: {workflow: down, inputs: {n: "{{ less }}"}}, needs: less}
  bottom: {transform: [0], needs: "deeper:false"}
  all:
    transform: {logic: {cat: [{var: input.n}, ",", {var: [again, ""]}]}}
    needs: [again, bottom]
    join: any
"""

    @task
    async def less(n: int) -> int:
        return n - 1

    async def scenario(make: Any) -> None:
        async with make(workflows=[doubled], tasks=[double, less]) as app:
            await app.deploy(inner)
            await app.deploy(down)
            run = await app.start(family, id="f1")
            assert await run.result() == 24
            rows = {row.workflow: row for row in await app.runs(Filter(root="f1"))}
            assert set(rows) == {"family", "doubled", "inner"}
            assert rows["inner"].parent == "f1"
            run = await app.start("down", n=4, id="deep")
            assert await run.result() == "4,3,2,1,0,"
            assert len(await app.runs(Filter(root="deep"))) == 5

    play(scenario)


INNER = graph(
    """
  a: {task: double, inputs: {n: "{{ input.n }}"}}
  b: {wait_signal: go, needs: a}
  c: {transform: "{{ a }}", needs: b}
""",
    "input: {type: object, properties: {n: {type: integer}}}",
    "inner",
)


@workflow
async def outer(n: Any) -> Any:
    first = await INNER(n=n)
    started = await ctx.start(INNER, {"n": 5})
    return [first, started]


@workflow
def outer_in_a_thread(n: int) -> Any:
    return INNER(n=n)


def test_functions_start_graphs_as_child_runs(play: Play) -> None:
    async def answered(app: Any, parent: str) -> None:
        await until(lambda: _waits_in_child(app, parent))
        [child] = await app.runs(Filter(parent=parent, status=("waiting",)))
        await app.signal(child.run_id, "go")

    async def scenario(make: Any) -> None:
        async with make(workflows=[outer, outer_in_a_thread], tasks=[double]) as app:
            run = await app.start(outer, 4, id="o")
            in_thread = await app.start(outer_in_a_thread, 6, id="t")
            await answered(app, "o")
            await answered(app, "t")
            first, started = await run.result()
            assert first == 8
            await app.signal(started, "go")
            assert await app.handle(started).result() == 10
            assert await in_thread.result() == 12
            with pytest.raises(RunFailed, match=r"n.*does not fit its schema|does not fit its schema.*n"):
                await app.run(outer, "four")
        with pytest.raises(WorkflowBodyError, match="inner is a graph and no function"):
            INNER(n=1)

    play(scenario)


async def _waits_in_child(app: Any, parent: str) -> bool:
    return len(await app.runs(Filter(parent=parent, status=("waiting",)))) == 1


def test_a_child_graph_refuses_an_input_that_does_not_fit_its_schema(play: Play) -> None:
    parent = graph("  a: {workflow: {workflow: inner, inputs: {n: '{{ input.n }}'}}}", id="parent")

    async def scenario(make: Any) -> None:
        async with make(workflows=[INNER], tasks=[double]) as app:
            with pytest.raises(RunFailed, match=r"the input of the run does not fit its schema.*n"):
                await app.run(parent, n="four")

    play(scenario)


def test_a_child_that_nobody_waits_for_is_known_by_its_id_and_cancelled_ones_go_with_their_parent(play: Play) -> None:
    slow = "stepwell: 1\nid: slow\nnodes: {a: {wait_signal: go}}\n"
    parent = graph(
        """
  aside: {workflow: {workflow: slow, wait: false, id: "aside-{{ input.n }}"}}
  mine: {workflow: {workflow: slow, id: mine}, needs: aside}
  left: {workflow: {workflow: slow, id: left, on_cancel: abandon}, needs: aside}
  told: {transform: "{{ aside.run_id }}", needs: aside}
""",
        id="parent",
    )

    async def scenario(make: Any) -> None:
        async with make() as app:
            await app.deploy(slow)
            run = await app.start(parent, n=1, id="p")
            await until(lambda: _all_there(app, "aside-1", "mine", "left"))
            await run.cancel()
            await until(lambda: is_(app, "mine", "cancelled"))
            assert (await run.row()).status == "cancelled"
            assert [(await app.get(id)).status for id in ("aside-1", "left")] == ["waiting", "waiting"]
            await app.signal("aside-1", "go")
            await app.wait("aside-1")

    play(scenario)


async def _all_there(app: Any, *ids: str) -> bool:
    rows = [await app.store.get(id) for id in ids]
    return all(row is not None and row.status == "waiting" for row in rows)


def test_a_secret_is_no_child_s_unless_it_declares_it_too(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t")
    seen: list[str] = []

    @task
    async def use(token: str) -> None:
        seen.append(token)

    child = """
stepwell: 1
id: child
secrets: [TOKEN]
nodes: {a: {task: use, inputs: {token: "{{ input.t }} {{ secret.TOKEN }}"}}}
"""
    parent = graph("  a: {workflow: {workflow: child, inputs: {t: '{{ secret.TOKEN }}'}}}", "secrets: [TOKEN]", "p")

    async def scenario(make: Any) -> None:
        seen.clear()
        async with make(tasks=[use]) as app:
            await app.deploy(child)
            await app.run(parent)
            [token] = seen
            assert token.endswith(" s3cr3t")
            assert token.startswith("[secret TOKEN")

    play(scenario)


def test_the_first_answer_of_a_run_can_be_read_before_it_ends(play: Play) -> None:
    answers = graph(
        """
  a: {respond: {id: "{{ run.id }}"}}
  b: {wait_signal: go, needs: a}
  c: {respond: second, needs: b}
"""
    )

    async def scenario(make: Any) -> None:
        async with make() as app:
            run = await app.start(answers, id="r")
            await waiting(app, "r")
            values = [s.entry for s in await app.entries("r") if isinstance(s.entry, ValueRecorded)]
            assert [(value.value, bytes(value.payload)) for value in values] == [("response", b'{"id":"r"}')]
            await run.signal("go")
            await run.result()
            values = [s.entry for s in await app.entries("r") if isinstance(s.entry, ValueRecorded)]
            assert len(values) == 1

    play(scenario)


def test_a_child_s_failure_can_be_retried_and_its_parent_goes_on(play: Play) -> None:
    broken = [True]

    @task
    async def mended() -> str:
        if broken[0]:
            raise ValueError("not yet")
        return "fine"

    child = "stepwell: 1\nid: child\nnodes: {a: {task: mended}}\n"
    parent = graph("  a: {workflow: {workflow: child}}\n  b: {transform: 'child says {{ a }}', needs: a}", id="p")

    async def scenario(make: Any) -> None:
        broken[0] = True
        async with make(tasks=[mended]) as app:
            await app.deploy(child)
            run = await app.start(parent, id="p")
            with pytest.raises(RunFailed, match="not yet"):
                await run.result()
            broken[0] = False
            await run.retry()
            assert await run.result() == "child says fine"
            assert len(await app.runs()) == 2

    play(scenario)
