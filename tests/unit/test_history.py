from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.errors import StepFailed as StepError
from stepwell.model.entries import (
    AnyEntry,
    RunCompleted,
    RunCreated,
    RunFailed,
    RunPaused,
    RunResumed,
    RunStarted,
    StepCancelled,
    StepCompleted,
    StepFailed,
    StepStarted,
    ValueRecorded,
    WaitSatisfied,
    WaitStarted,
    WaitTimedOut,
    WaitWithdrawn,
)
from stepwell.model.failure import Failure
from stepwell.model.ids import StepPath
from stepwell.observe.diagram import dot, mermaid
from stepwell.observe.history import History, history
from stepwell.observe.picture import picture
from stepwell.observe.sketch import plain, sketch


def path(text: str) -> StepPath:
    """`task:1/fetch#2` as a path."""
    *links, last = text.split("/")
    name, _, number = last.partition("#")
    return StepPath(
        tuple((label, int(n)) for label, _, n in (link.rpartition(":") for link in links)), name, int(number)
    )


def begun() -> list[AnyEntry]:
    return [RunCreated(10, "r", "shop", "v1", "r", input=msgspec.Raw(b'{"n":1}')), RunStarted(20)]


def told(*words: str) -> list[AnyEntry]:
    """A journal in shorthand: `+a#1` starts, `-a#1` completes, `!a#1` fails, `~a#1` is cancelled."""
    entries = begun()
    for at, word in enumerate(words, 30):
        where = path(word[1:])
        match word[0]:
            case "+":
                entries.append(StepStarted(at, where))
            case "-":
                entries.append(StepCompleted(at, where))
            case "!":
                entries.append(StepFailed(at, where, error=Failure("ValueError", "no")))
            case _:
                entries.append(StepCancelled(at, where))
    return entries


def arrows(past: History) -> dict[str, list[str]]:
    """What each part follows, by readable path."""
    return {str(part.path): [str(past.parts[n].path) for n in past.follows(part)] for part in past.parts}


def edges(past: History, **options: Any) -> set[str]:
    """The edges of its picture, by label."""
    drawn = picture(past, **options)
    label = {node.id: node.scope + node.label if node.kind != "join" else "•" for node in drawn.nodes}
    return {f"{label[source]} > {label[target]}" for source, target in drawn.edges}


# -- what happened ----------------------------------------------------------------------------------------------------


def test_a_step_has_its_attempts_with_times_errors_and_outcomes() -> None:
    a, error = path("a#1"), Failure("shop.Busy", "busy")
    past = history(
        [
            *begun(),
            StepStarted(30, a, input=msgspec.Raw(b'{"page":1}')),
            StepFailed(40, a, 1, error, retry_at=50),
            StepStarted(50, a, 2),
            StepStarted(70, a, 3),
            StepCompleted(80, a, 3, msgspec.Raw(b'"fine"')),
            RunCompleted(90, msgspec.Raw(b"2")),
        ]
    )
    (part,) = past.parts
    assert (part.kind, part.status, part.input, part.output, part.error) == (
        "task",
        "completed",
        '{"page":1}',
        '"fine"',
        "",
    )
    assert (part.started_at, part.ended_at, part.seq, part.retries) == (30, 80, 3, 2)
    tries = [(one.number, one.started_at, one.ended_at, one.outcome, one.retry_at) for one in part.attempts]
    assert tries == [(1, 30, 40, "failed", 50), (2, 50, None, "lost", None), (3, 70, 80, "completed", None)]
    assert part.attempts[0].error == "Busy: busy"
    assert (past.status, past.created_at, past.started_at, past.ended_at, past.output) == ("completed", 10, 20, 90, "2")


def test_waits_children_and_started_runs_are_parts_too() -> None:
    past = history(
        [
            *begun(),
            WaitStarted(30, path("timer#1"), due=50),
            WaitSatisfied(50, path("timer#1")),
            WaitStarted(50, path("signal:go#1"), "signal", "go", due=60),
            WaitTimedOut(60, path("signal:go#1")),
            StepStarted(60, path("treat#1"), step="child", child="r/treat#1"),
            ValueRecorded(61, path("start:treat#1"), "start", msgspec.Raw(b'"r/start:treat#1"')),
            ValueRecorded(62, path("ctx.now#1")),
        ]
    )
    seen = [(part.kind, part.status, part.child, part.ended_at) for part in past.parts]
    assert seen == [
        ("timer", "satisfied", "", 50),
        ("signal", "timed_out", "", 60),
        ("child", "running", "r/treat#1", None),
        ("start", "completed", "r/start:treat#1", 61),
    ]


def test_pauses_have_a_beginning_an_end_and_a_cause() -> None:
    past = history([*begun(), RunPaused(30, by="ann", reason="lunch"), RunResumed(70), RunPaused(80, cause="deadlock")])
    assert [(one.at, one.until, one.cause, one.by) for one in past.pauses] == [
        (30, 70, "request", "ann"),
        (80, None, "deadlock", ""),
    ]
    assert past.status == "stuck"


def test_a_retried_run_goes_on_where_it_failed() -> None:
    failed = [*told("+a#1", "!a#1"), RunFailed(50, Failure("ValueError", "no"), (path("a#1"),))]
    past = history(failed)
    assert (past.status, past.error, past.ended_at) == ("failed", "ValueError: no", 50)
    for entry in (RunResumed(60, retry=True, retried=(path("a#1"),)), StepStarted(61, path("a#1"), 2)):
        past.add(entry)
    assert (past.status, past.ended_at, past.parts[0].status) == ("running", None, "running")
    for entry in (StepCompleted(62, path("a#1"), 2), StepStarted(62, path("b#1"))):
        past.add(entry)
    assert arrows(past) == {"a#1": [], "b#1": ["a#1"]}


def test_scopes_are_a_tree() -> None:
    past = history(told("+a#1", "-a#1", "+task:1/b#1", "+task:2/g.map:1/c#1", "+task:2/g.map:1/c#2"))
    tree = [(scope.path, [str(past.parts[n].path) for n in scope.parts]) for scope in past.root.walk()]
    assert tree == [
        ((), ["a#1"]),
        ((("task", 1),), ["task:1/b#1"]),
        ((("task", 2),), []),
        ((("task", 2), ("g.map", 1)), ["task:2/g.map:1/c#1", "task:2/g.map:1/c#2"]),
    ]


# -- what followed what -----------------------------------------------------------------------------------------------


def test_steps_one_after_another_are_a_chain() -> None:
    past = history(told("+a#1", "-a#1", "+b#1", "!b#1", "+c#1", "-c#1"))
    assert arrows(past) == {"a#1": [], "b#1": ["a#1"], "c#1": ["b#1"]}
    assert [str(past.parts[n].path) for n in past.points[past.end_point()]] == ["c#1"]


def test_branches_fork_from_one_step_and_join_at_the_next() -> None:
    past = history(
        told(
            "+a#1",
            "-a#1",
            "+task:1/b#1",
            "+task:2/c#1",
            "-task:1/b#1",
            "+task:1/d#1",
            "-task:2/c#1",
            "-task:1/d#1",
            "+e#1",
        )
    )
    assert arrows(past) == {
        "a#1": [],
        "task:1/b#1": ["a#1"],
        "task:2/c#1": ["a#1"],
        "task:1/d#1": ["task:1/b#1"],
        "e#1": ["task:1/d#1", "task:2/c#1"],
    }


def test_two_groups_of_branches_in_a_row_are_two_fans() -> None:
    first = ["+task:1/a#1", "+task:2/b#1", "-task:1/a#1", "-task:2/b#1"]
    past = history(told(*first, "+task:3/c#1", "+task:4/d#1"))
    assert arrows(past)["task:3/c#1"] == arrows(past)["task:4/d#1"] == ["task:1/a#1", "task:2/b#1"]


def test_items_of_a_map_never_follow_each_other() -> None:
    window = ["+f.map:1/f#1", "+f.map:1/f#2", "-f.map:1/f#1", "+f.map:1/f#3", "-f.map:1/f#2", "-f.map:1/f#3"]
    past = history(told("+a#1", "-a#1", *window, "+b#1"))
    assert [arrows(past)[f"f.map:1/f#{n}"] for n in (1, 2, 3)] == [["a#1"]] * 3
    assert arrows(past)["b#1"] == ["f.map:1/f#1", "f.map:1/f#2", "f.map:1/f#3"]


def test_steps_inside_the_items_of_a_map_are_chains_of_their_own() -> None:
    m = "m.map:1/item"
    past = history(told(f"+{m}:1/a#1", f"-{m}:1/a#1", f"+{m}:2/a#1", f"+{m}:1/b#1", f"-{m}:2/a#1", f"+{m}:2/b#1"))
    assert arrows(past)[f"{m}:2/a#1"] == []
    assert [arrows(past)[f"{m}:{n}/b#1"] for n in (1, 2)] == [[f"{m}:1/a#1"], [f"{m}:2/a#1"]]


def test_what_was_cancelled_is_followed_by_nothing() -> None:
    past = history(
        [
            *begun(),
            WaitStarted(30, path("timer#1"), due=99),
            StepStarted(30, path("a#1")),
            StepCompleted(40, path("a#1")),
            WaitWithdrawn(40, path("timer#1")),
            *told("+task:1/b#1", "+task:2/c#1", "-task:1/b#1", "~task:2/c#1", "+d#1")[2:],
        ]
    )
    assert arrows(past)["task:1/b#1"] == ["a#1"]
    assert arrows(past)["d#1"] == ["task:1/b#1"]


def test_a_branch_that_goes_on_beside_its_parent_keeps_its_own_order() -> None:
    past = history(
        told(
            "+task:1/a#1",
            "+task:2/b#1",
            "-task:1/a#1",
            "+c#1",
            "-c#1",
            "-task:2/b#1",
            "+task:2/d#1",
            "-task:2/d#1",
            "+e#1",
        )
    )
    assert arrows(past)["c#1"] == ["task:1/a#1"]
    assert arrows(past)["task:2/d#1"] == ["task:2/b#1"]
    assert arrows(past)["e#1"] == ["c#1", "task:2/d#1"]


@task(retry=Retry(attempts=3, first="1ms"))
async def fetch(page: str) -> str:
    if page == "p1" and ctx.attempt < 2:
        raise ConnectionError("busy")
    return page


@task
async def resize(page: str) -> str:
    return page


@task
async def breaks() -> None:
    raise ValueError("broken")


async def treat(page: str) -> str:
    return await resize(await fetch(page))


@workflow
async def real(pages: int) -> int:
    found = await fetch.map([f"p{n}" for n in range(pages)], concurrency=3)
    await asyncio.gather(resize("x"), treat("y"))
    await asyncio.gather(resize("z"), treat("q"))
    await ctx.map(treat, found)
    try:
        await breaks()
    except StepError:
        pass
    await asyncio.sleep(0.001)
    return len(found)


def played(pages: int) -> History:
    async def story() -> History:
        async with Stepwell("memory://") as app:
            run = await app.start(real, pages, id="r")
            await run.result()
            return history([one.entry for one in await app.entries("r")])

    return asyncio.run(story())


def test_ordinary_code_is_drawn_as_it_is_written() -> None:
    assert edges(played(20)) == {
        "real > fetch.map:1 ×20",
        "fetch.map:1 ×20 > resize#1",
        "fetch.map:1 ×20 > task:2/fetch#1",
        "task:2/fetch#1 > task:2/resize#1",
        "resize#1 > •",
        "task:2/resize#1 > •",
        "• > resize#2",
        "• > task:4/fetch#1",
        "task:4/fetch#1 > task:4/resize#1",
        "resize#2 > treat.map:1/item/fetch ×20",
        "task:4/resize#1 > treat.map:1/item/fetch ×20",
        "treat.map:1/item/fetch ×20 > treat.map:1/item/resize ×20",
        "treat.map:1/item/resize ×20 > breaks#1",
        "breaks#1 > timer#1",
        "timer#1 > completed",
    }


# -- pictures ---------------------------------------------------------------------------------------------------------


def fan(count: int, names: Sequence[str] = ("b",), begin: str = "task") -> list[str]:
    starts = [f"{begin}:{n}/{names[0]}#1" for n in range(1, count + 1)]
    words = [f"+{one}" for one in starts]
    for name in names[1:]:
        words += [word for one in starts for word in (f"-{one}", f"+{one.replace(names[0], name)}")]
        starts = [one.replace(names[0], name) for one in starts]
    return words + [f"-{one}" for one in starts]


def test_many_that_are_alike_become_one_with_their_number_unless_all_are_wanted() -> None:
    past = history(told("+a#1", "-a#1", *fan(9), "+c#1"))
    assert edges(past) == {"shop > a#1", "a#1 > task:1…9/b ×9", "task:1…9/b ×9 > c#1"}
    assert len(picture(past, everything=True).nodes) == 1 + 11
    few = history(told("+a#1", "-a#1", *fan(8), "+c#1"))
    assert len(picture(few).nodes) == 1 + 10


def test_repetitions_of_one_step_become_one() -> None:
    words = [word for n in range(1, 21) for word in (f"+a#{n}", f"-a#{n}")]
    assert edges(history(told(*words, "+b#1"))) == {"shop > a#1… ×20", "a#1… ×20 > b#1"}


def test_the_steps_of_a_loop_become_one_each() -> None:
    words = [word for n in range(1, 21) for word in (f"+a#{n}", f"-a#{n}", f"+b#{n}", f"-b#{n}")]
    drawn = edges(history(told("+c#1", "-c#1", *words, "+d#1")))
    assert drawn == {"shop > c#1", "c#1 > a#1… ×20", "a#1… ×20 > b#1… ×20", "b#1… ×20 > d#1"}
    assert len(picture(history(told(*words[:32]))).nodes) == 17


def test_a_node_of_many_tells_how_they_ended() -> None:
    words = [f"+f.map:1/f#{n}" for n in range(1, 21)]
    ends = [f"{'!' if n % 5 == 0 else '-'}f.map:1/f#{n}" for n in range(1, 20)]
    (_, node) = picture(history(told(*words, *ends))).nodes
    assert (node.label, node.count, node.status, node.ended_at) == ("f.map:1 ×20", 20, "running", None)
    assert node.statuses == {"completed": 16, "failed": 3, "running": 1}


def test_every_edge_points_forwards_and_every_group_is_known() -> None:
    for everything in (False, True):
        drawn = picture(played(11), everything=everything)
        place = {node.id: number for number, node in enumerate(drawn.nodes)}
        assert all(place[source] < place[target] for source, target in drawn.edges)
        assert all(any(target == node.id for _, target in drawn.edges) for node in drawn.nodes[1:])
        groups = {group.id for group in drawn.groups} | {""}
        assert {node.group for node in drawn.nodes} <= groups
        assert {group.parent for group in drawn.groups} <= groups


def test_a_fan_behind_a_fan_needs_few_edges() -> None:
    words = [f"+f.map:{m}/f#{n}" for m in (1,) for n in range(1, 1001)]
    ends = [f"-f.map:1/f#{n}" for n in range(1, 1001)]
    again = [word.replace("f.map:1", "f.map:2") for word in (*words, *ends)]
    drawn = picture(history(told(*words, *ends, *again)), everything=True)
    assert len(drawn.edges) == 3000


def test_a_long_journal_becomes_a_few_nodes() -> None:
    entries = begun()
    for n in range(1, 15_001):
        where = StepPath((("f.map", 1),), "f", n)
        entries += [StepStarted(30, where), StepCompleted(31, where)]
    past = history([*entries, RunCompleted(40)])
    assert edges(past) == {"shop > f.map:1 ×15,000", "f.map:1 ×15,000 > completed"}


def test_a_sketch_shows_forks_and_joins_as_lanes() -> None:
    past = history([*told("+a#1", "-a#1", *fan(3, ("b", "c")), "+d#1", "-d#1"), RunCompleted(99)])
    assert [row.lanes for row in sketch(picture(past))] == [
        "○",
        "●",
        "├─┬─╮",
        "● │ │",
        "│ ● │",
        "│ │ ●",
        "● │ │",
        "│ ● │",
        "│ │ ●",
        "├─┴─╯",
        "●",
        "◉",
    ]
    assert plain("├─┬─╮ ● ◇") == "+-+-+ * ~"


HOSTILE = 'a"b`c`<b>x</b>;[]{}()|--> #x; end subgraph %% \\ \n\x00é𝒳\u2028z'


def hostile() -> History:
    entries: list[AnyEntry] = [RunCreated(1, 'r"', "w " + HOSTILE, "v", 'r"'), RunStarted(2)]
    for n in (1, 2):
        where = StepPath(((HOSTILE, 1),), HOSTILE, n)
        entries += [StepStarted(3, where), StepFailed(4, where, error=Failure("E", HOSTILE))]
    return history(entries)


def test_mermaid_labels_hold_nothing_that_means_something_to_mermaid() -> None:
    lines = mermaid(picture(hostile())).split("\n")
    assert lines[0] == "flowchart TD"
    safe = r'"(?:[\w\s.,:/+=@×…~\'()-]|#\d+;|<br/>)*"'
    kinds = (
        rf"(\w+)(\[|\(\[|\[\[|\{{\{{|\(\(|\[/){safe}(\]|\]\)|\]\]|\}}\}}|\)\)|/\])",
        rf"subgraph g\d+\[{safe}\]",
        r"end",
        r"\w+ --> \w+",
        r"classDef \w+ fill:#\w{6},stroke:#\w{6},color:#\w{6}",
        r"class \w+(,\w+)* \w+",
    )
    for line in lines[1:]:
        assert any(re.fullmatch(kind, line.strip()) for kind in kinds), line
    assert not {"end", "graph", "subgraph"} & {node.id for node in picture(hostile()).nodes}


def test_dot_strings_are_closed_and_on_one_line() -> None:
    text = dot(picture(hostile()))
    assert "\x00" not in text
    strings = re.sub(r'"(?:[^"\\\n]|\\.)*"', "S", text)
    assert '"' not in strings
    for line in strings.split("\n")[1:-1]:
        assert re.fullmatch(
            r"rankdir=TB;|node \[.*\];|\w+ -> \w+;|subgraph cluster_g\d+ \{ label=S;|\}"
            r"|\w+ \[label=S, shape=\w+(, peripheries=2)?, fillcolor=S, color=S\];",
            line.strip(),
        ), line
    assert strings.startswith("digraph S {")
    assert strings.endswith("}")
