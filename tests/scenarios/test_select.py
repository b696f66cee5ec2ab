"""Races: the first of any kinds wins, the others are withdrawn, and what they waited for is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from byhand import HOUR, HandClock
from patience import until

from stepwell import StepFailed, Stepwell, ctx, task, workflow
from stepwell.authoring.context import Selected
from stepwell.errors import RunCancelled, RunFailed

Play = Callable[..., Any]

ran: list[Any] = []
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    global gate
    ran.clear()
    gate = asyncio.Event()


@task
async def held(what: str) -> str:
    ran.append(f"begin {what}")
    await gate.wait()
    return what


@task
async def note(what: str) -> str:
    ran.append(what)
    return what


@task
async def breaks() -> None:
    raise ValueError("broken")


@workflow
async def pack() -> str:
    return await ctx.signal("packed", str)


BRANCHES: dict[str, Callable[[], Any]] = {
    "signal": lambda: ctx.signal("s", str),
    "event": lambda: ctx.event("e"),
    "timer": lambda: ctx.timer("1h"),
    "question": lambda: ctx.ask("q?", str),
    "step": lambda: held("step"),
    "child": lambda: pack(),
}


@workflow
async def race(first: str, second: str) -> list[str]:
    kind, _ = await ctx.select(**{"a": BRANCHES[first](), "b": BRANCHES[second]()})
    return [kind, await ctx.signal("end", str)]


async def let_win(app: Stepwell, clock: HandClock, run: str, kind: str) -> None:
    """Make the branch of this kind ready."""
    match kind:
        case "signal":
            await app.signal(run, "s", "go")
        case "event":
            await app.publish("e", "go")
        case "timer":
            await clock.advance(HOUR)
        case "question":
            [request] = await app.inbox(run=run)
            await app.answer(request.id, "go")
        case "step":
            gate.set()
        case _:
            await app.signal(await child_of(app, run), "packed", "go")


async def child_of(app: Stepwell, run: str) -> str:
    [child] = [row.run_id for row in await app.runs() if row.parent == run]
    return child


async def tags(app: Stepwell, run: str) -> list[str]:
    return [str(one.entry.__struct_config__.tag) for one in await app.entries(run)]


async def is_open(app: Stepwell, run: str, kinds: tuple[str, ...]) -> bool:
    """Whether the branches of these kinds are under way."""
    state = await app.state(run)
    if len(state.waits) + len(state.steps) != len(kinds):
        return False
    if "step" in kinds and ran != ["begin step"]:
        return False
    if "question" in kinds and len(await app.inbox(run=run)) != 1:
        return False
    return "child" not in kinds or any(row.parent == run and row.status == "waiting" for row in await app.runs())


async def status(app: Stepwell, run: str) -> str:
    return (await app.get(run)).status


async def is_cancelled(app: Stepwell, run: str) -> bool:
    return await status(app, run) == "cancelled"


PAIRS = [(winner, loser) for winner in BRANCHES for loser in BRANCHES if winner != loser]


@pytest.mark.parametrize(("winner", "loser"), PAIRS, ids=[f"{one}-before-{other}" for one, other in PAIRS])
def test_the_first_wins_and_the_other_is_withdrawn(play: Play, winner: str, loser: str) -> None:
    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            await app.start(race, winner, loser, id="r")
            await until(lambda: is_open(app, "r", (winner, loser)))
            await let_win(app, clock, "r", winner)
            await until(lambda: _is_over(app, "r"))
            found = await tags(app, "r")
            assert ("step.cancelled" if loser in ("step", "child") else "wait.withdrawn") in found
            assert found.count("step.cancelled") + found.count("wait.withdrawn") == 1
            if loser == "child":
                await until(lambda: _child_is(app, "r", "cancelled"))
            assert await app.inbox() == []
        async with make(clock=clock, workflows=[race, pack]) as app:  # the same winner, from the journal alone
            await app.signal("r", "end", "over")
            assert await app.handle("r").result() == ["a", "over"]
            assert (await app.replay("r")).outcome == "ok"

    play(scenario)


async def _is_over(app: Stepwell, run: str) -> bool:
    return [wait.name for wait in (await app.state(run)).waits.values()] == ["end"]


async def _child_is(app: Stepwell, run: str, wanted: str) -> bool:
    return await status(app, await child_of(app, run)) == wanted


@pytest.mark.parametrize("loser", ["signal", "event"])
def test_what_a_loser_did_not_take_is_there_for_a_later_wait(play: Play, loser: str) -> None:
    @workflow
    async def waits_again() -> str:
        lost = ctx.signal("s", str) if loser == "signal" else ctx.event("e")
        name, _ = await ctx.select(won=ctx.signal("won"), lost=lost)
        again = await ctx.signal("s", str) if loser == "signal" else (await ctx.event("e")).data
        return f"{name}, then {again}"

    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(waits_again, id="w")
            await until(lambda: is_open(app, "w", ("", "")))
            await app.signal("w", "won")
            await (app.signal("w", "s", "still here") if loser == "signal" else app.publish("e", "still here"))
            assert await app.handle("w").result() == "won, then still here"

    play(scenario)


@pytest.mark.parametrize(
    "pair", [("signal", "event"), ("event", "signal"), ("signal", "question"), ("question", "event")]
)
def test_of_two_that_are_ready_at_once_one_wins_and_the_other_stays(play: Play, pair: tuple[str, str]) -> None:
    @workflow
    async def both() -> list[str]:
        name, _ = await ctx.select(**{kind: BRANCHES[kind]() for kind in pair})
        await note(name)
        left = [kind for kind in pair if kind != name and kind != "question"]
        for kind in left:
            await BRANCHES[kind]()
        return [name, *left]

    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            await app.start(both, id="b")
            await until(lambda: is_open(app, "b", pair))
            await app.pause("b")
            await app.wait("b")
            for kind in pair:
                await let_win(app, clock, "b", kind)
            await app.resume("b")
            name, *left = await app.handle("b").result()
            assert name in pair
            assert left == [kind for kind in pair if kind not in (name, "question")]
            assert ran == [name]
            found = await tags(app, "b")
            assert found.count("wait.withdrawn") == 1
            assert (await app.replay("b")).outcome == "ok"

    play(scenario)


def test_of_two_steps_that_end_at_once_the_first_in_the_journal_wins_every_time(play: Play) -> None:
    @workflow
    async def steps() -> str:
        name, value = await ctx.select(one=held("one"), two=held("two"), three=held("three"))
        assert name == value
        await ctx.signal("end")
        return name

    async def scenario(make: Play) -> None:
        async with make() as app:
            await app.start(steps, id="s")
            await until(lambda: len(ran) == 3)
            gate.set()
            await until(lambda: _is_over(app, "s"))
            entries = [one.entry for one in await app.entries("s")]
            [first, *_] = [one.path.name for one in entries if one.__struct_config__.tag == "step.completed"]
            assert first == "held"
        async with make(workflows=[steps]) as app:
            await app.signal("s", "end")
            assert await app.handle("s").result() == "one"

    play(scenario)


def test_the_first_branch_of_those_that_wait_for_nothing_wins(play: Play) -> None:
    @workflow
    async def at_once() -> str:
        async def gives(value: str) -> str:
            return value

        name, value = await ctx.select(a=ctx.signal("never"), b=gives("b"), c=gives("c"))
        return f"{name} {value}"

    async def scenario(make: Play) -> None:
        async with make() as app:
            assert await app.run(at_once) == "b b"

    play(scenario)


def test_what_the_winner_raises_is_raised_after_the_others_are_withdrawn(play: Play) -> None:
    @workflow
    async def fails() -> str:
        try:
            await ctx.select(bad=breaks(), late=ctx.timer("1h"), said=ctx.signal("s"))
        except ValueError as error:
            assert isinstance(error, StepFailed)
            return str(error)
        return "nothing"

    @workflow
    async def fails_for_good() -> None:
        await ctx.select(bad=breaks(), late=ctx.timer("1h"))

    @workflow
    async def is_late() -> str:
        name, _ = await ctx.select(a=ctx.signal("s", timeout="1h"), b=ctx.signal("t"))
        return name

    clock = HandClock()

    async def scenario(make: Play) -> None:
        async with make(clock=clock) as app:
            run = await app.start(fails)
            assert await run.result() == "broken"
            assert (await tags(app, run.id)).count("wait.withdrawn") == 2
            with pytest.raises(RunFailed, match="broken"):
                await app.run(fails_for_good)
            run = await app.start(is_late)
            await until(lambda: is_open(app, run.id, ("", "")))
            await clock.advance(HOUR)
            with pytest.raises(RunFailed, match="signal 's' did not come in time"):
                await run.result()

    play(scenario)


def test_a_race_in_a_loop_takes_every_signal_and_event_once_across_restarts(play: Play) -> None:
    @workflow
    async def collects(count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            match await ctx.select(letter=ctx.signal("letter", str), number=ctx.event("number"), end=ctx.timer("1h")):
                case ("letter", text):
                    found.append(text)
                case ("number", event):
                    found.append(str(event.data))
                case Selected("end"):
                    return found
        return found

    async def scenario(make: Play) -> None:
        sent: list[str] = []
        for life in range(3):
            async with make(workflows=[collects], warm_wait=0 if life == 1 else "30s") as app:
                if not life:
                    await app.start(collects, 18, id="c")
                for number in range(3):
                    sent += [f"{life}{number}", f"x{life}{number}"]
                    await app.publish("number", f"{life}{number}")
                    await app.signal("c", "letter", f"x{life}{number}")
                if life < 2:
                    await until(lambda life=life: _has_collected(app, "c", 6 * (life + 1)))
        async with make(workflows=[collects]) as app:
            found = await app.handle("c").result()
            assert sorted(found) == sorted(sent)
            for kind in ("x", ""):
                mine = [one for one in sent if one.startswith("x") == bool(kind)]
                assert [one for one in found if one.startswith("x") == bool(kind)] == mine
            assert (await app.replay("c")).outcome == "ok"

    play(scenario)


async def _has_collected(app: Stepwell, run: str, count: int) -> bool:
    return (await tags(app, run)).count("wait.satisfied") == count


def test_races_stand_in_races_and_in_gather(play: Play) -> None:
    @workflow
    async def nested() -> list[str]:
        async def inner(which: str) -> str:
            name, value = await ctx.select(yes=ctx.signal(f"yes-{which}", str), no=ctx.signal(f"no-{which}", str))
            return f"{which}: {name} {value}"

        async def outer(which: str) -> str:
            name, value = await ctx.select(
                deep=ctx.select(one=inner(f"{which}1"), two=inner(f"{which}2")), late=ctx.signal(f"late-{which}", str)
            )
            return f"{name} {value.value if isinstance(value, Selected) else value}"

        return list(await asyncio.gather(outer("a"), outer("b"), inner("c")))

    async def scenario(make: Play) -> None:
        async with make(workflows=[nested]) as app:
            await app.start(nested, id="n")
            await until(lambda: is_open(app, "n", ("",) * 12))
            await app.signal("n", "no-a2", "x")
            await until(lambda: is_open(app, "n", ("",) * 7))
        async with make(workflows=[nested], warm_wait=0) as app:
            await until(lambda: not app.engine.runners)
            await app.signal("n", "late-b", "y")
            await until(lambda: is_open(app, "n", ("",) * 2))
            await app.signal("n", "yes-c", "z")
            assert await app.handle("n").result() == ["deep a2: no x", "late y", "c: yes z"]
            assert (await tags(app, "n")).count("wait.withdrawn") == 9
            assert (await app.replay("n")).outcome == "ok"

    play(scenario)


def test_a_run_that_is_cancelled_in_the_middle_of_a_race_withdraws_all_of_it(play: Play) -> None:
    @workflow
    async def cleans_up() -> None:
        async def branch() -> None:
            try:
                await ctx.signal("never")
            finally:
                await note("branch cleaned up")

        try:
            await ctx.select(a=branch(), b=ctx.event("e"), c=ctx.ask("q?"), d=held("step"), e=pack())
        finally:
            await note("race cleaned up")

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(cleans_up, id="c")
            await until(lambda: _all_under_way(app))
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            assert ran == ["begin step", "branch cleaned up", "race cleaned up"]
            found = await tags(app, "c")
            assert (found.count("wait.withdrawn"), found.count("step.cancelled")) == (3, 2)
            assert await app.inbox() == []
            await until(lambda: _child_is(app, "c", "cancelled"))

    play(scenario)


async def _all_under_way(app: Stepwell) -> bool:
    return ran == ["begin step"] and len(await app.inbox()) == 1 and any(r.parent for r in await app.runs())


def test_losers_end_what_they_clear_up_before_the_race_is_over(play: Play) -> None:
    @workflow
    async def tidy() -> str:
        async def branch() -> None:
            try:
                await ctx.signal("never")
            finally:
                await note("cleaned up")

        name, _ = await ctx.select(go=ctx.signal("go"), other=branch())
        await note("after")
        return name

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(tidy)
            await run.signal("go")
            assert await run.result() == "go"
            assert ran == ["cleaned up", "after"]
            assert (await app.replay(run.id)).outcome == "ok"

    play(scenario)


def test_a_task_that_the_body_made_itself_is_not_cancelled_when_it_loses(play: Play) -> None:
    @workflow
    async def keeps() -> list[Any]:
        mine = asyncio.ensure_future(ctx.signal("slow", str))
        first, _ = await ctx.select(mine=mine, quick=ctx.signal("quick"))
        second, value = await ctx.select(mine=mine, quick=ctx.signal("quick"))
        return [first, second, value]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(keeps)
            await run.signal("quick")
            await run.signal("slow", "kept")
            assert await run.result() == ["quick", "mine", "kept"]

    play(scenario)


def test_a_synchronous_workflow_races_too(play: Play) -> None:
    @workflow
    def races() -> list[Any]:
        name, value = ctx.sync.select(said=ctx.signal("said", str), late=ctx.timer("1h"), step=held("step"))
        return [name, value]

    async def scenario(make: Play) -> None:
        async with make() as app:
            run = await app.start(races)
            await until(lambda: ran == ["begin step"])
            await run.signal("said", "yes")
            assert await run.result() == ["said", "yes"]

    play(scenario)


def test_a_race_needs_a_branch(play: Play) -> None:
    @workflow
    async def empty() -> None:
        await ctx.select()

    async def scenario(make: Play) -> None:
        async with make() as app:
            with pytest.raises(RunFailed, match="at least one branch"):
                await app.run(empty)

    play(scenario)
