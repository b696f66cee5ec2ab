"""What a transactional task writes is there exactly when its outcome is: once, whatever fails or dies."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dying import Fuse, burnt_or_done, die
from patience import until

from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.engine import instore
from stepwell.engine.clock import SystemClock
from stepwell.errors import DefinitionError, Fenced, RunCancelled, RunFailed, StoreFull, WorkflowBodyError
from stepwell.model.entries import StepFailed, StepStarted
from stepwell.model.ids import SECOND
from stepwell.testing import Bench

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    calls.clear()
    World.fails = 0
    World.gate = asyncio.Event()


class World:
    """What tasks touch outside the engine."""

    fails = 0
    gate: asyncio.Event


@task(transactional=True)
def open_accounts() -> None:
    ctx.connection.execute("CREATE TABLE IF NOT EXISTS ledger (who TEXT, cents INTEGER)")


@task(transactional=True, retry=Retry(attempts=4, first="1ms"))
def debit(who: str, cents: int) -> int:
    """Write a line, and give the sum of all."""
    calls.append(f"debit {who}")
    ctx.connection.execute("INSERT INTO ledger VALUES (?, ?)", (who, cents))
    if World.fails:
        World.fails -= 1
        raise OSError("the bank is closed")
    (total,) = ctx.connection.execute("SELECT sum(cents) FROM ledger").fetchone()
    return int(total)


@task(transactional=True)
def lines() -> list[list[Any]]:
    return [list(row) for row in ctx.connection.execute("SELECT who, cents FROM ledger ORDER BY rowid")]


@task(transactional=True)
def large(who: str) -> str:
    calls.append(f"large {who}")
    ctx.connection.execute("INSERT INTO ledger VALUES (?, 1)", (who,))
    return who * 100_000


@task
async def held() -> str:
    calls.append("held")
    await World.gate.wait()
    return "held"


@workflow
async def pays(who: str, cents: int) -> int:
    await open_accounts.aio()
    return await debit.aio(who, cents)


@workflow
def pays_in_sync(who: str, cents: int) -> int:
    open_accounts()
    return debit(who, cents)


@workflow
async def all_lines() -> list[list[Any]]:
    await open_accounts.aio()
    return await lines.aio()


def play_on(play: Callable[..., Any], story: Callable[[Stepwell], Any], **settings: Any) -> None:
    """A scenario on one engine."""

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(**settings) as app:
            await story(app)

    play(scenario)


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [pays, pays_in_sync])
def test_what_a_task_writes_is_there_with_its_outcome(play: Callable[..., Any], flow: Any) -> None:
    async def story(app: Stepwell) -> None:
        assert await app.run(flow, "ann", 5) == 5
        assert await app.run(flow, "bob", 7) == 12
        assert await app.run(all_lines) == [["ann", 5], ["bob", 7]]

    play_on(play, story)


def test_ordinary_readers_of_the_file_find_it_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stepwell(tmp_path / "runs.db") as app:
            await app.run(pays, "ann", 5)

    asyncio.run(story())
    connection = sqlite3.connect(tmp_path / "runs.db")
    assert connection.execute("SELECT who, cents FROM ledger").fetchall() == [("ann", 5)]
    connection.close()


def test_what_a_task_that_raises_has_written_is_rolled_back_and_its_retry_writes_once(play: Callable[..., Any]) -> None:
    async def story(app: Stepwell) -> None:
        World.fails = 2
        assert await app.run(pays, "ann", 5) == 5
        assert calls == ["debit ann"] * 3
        World.fails = 9
        with pytest.raises(RunFailed, match="the bank is closed"):
            await app.run(pays, "bob", 7)
        World.fails = 0
        assert await app.run(all_lines) == [["ann", 5]]

    play_on(play, story)


def test_a_failed_run_is_retried_from_its_transactional_step(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        World.fails = 4
        async with make() as app:
            run = await app.start(pays, "ann", 5, id="r")
            with pytest.raises(RunFailed):
                await run.result()
        async with make(workflows=[pays]) as app:
            await app.retry("r")
            assert await app.handle("r").result() == 5
            assert await app.run(all_lines) == [["ann", 5]]

    play(scenario)


def test_a_thousand_debits_of_a_map_add_up_exactly(play: Callable[..., Any]) -> None:
    @workflow
    async def many(count: int) -> list[list[Any]]:
        await open_accounts.aio()
        await debit.map([f"w{number}" for number in range(count)], common={"cents": 3})
        return await lines.aio()

    async def story(app: Stepwell) -> None:
        World.fails = 5
        found = await app.run(many, 1000)
        assert sorted(found) == sorted([f"w{number}", 3] for number in range(1000))

    play_on(play, story)


def test_a_large_result_is_kept_too(play: Callable[..., Any]) -> None:
    @workflow
    async def big() -> int:
        await open_accounts.aio()
        return len(await large.aio("x"))

    async def story(app: Stepwell) -> None:
        assert await app.run(big) == 100_000

    play_on(play, story)


# -- crashes and trouble -----------------------------------------------------------------------------------------------


async def has_outcome(app: Stepwell, id: str, step: str) -> bool:
    """Whether the outcome of a step is in the mailbox of its run."""
    return any(message.kind == "outcome" and message.name == step for message in await app.store.mailbox(id))


@workflow
async def pays_after(what: str) -> int:
    """One more step, whose outcome the engine of the first life does not hear."""
    await open_accounts.aio()
    await held()
    if what == "large":
        return len(await large.aio("x"))
    return await debit.aio("ann", 5)


@pytest.mark.parametrize("what", ["small", "large"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_an_outcome_that_is_found_after_a_crash_counts_and_the_task_does_not_run_again(
    play: Callable[..., Any], what: str, durability: Any
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        app = make()
        await app.open()
        await app.start(pays_after, what, id="r", durability=durability)
        await until(lambda: "held" in calls)
        app.engine.mailboxes.heard = lambda *_, **__: None  # type: ignore[method-assign]  # it is told, and dies
        World.gate.set()
        await until(lambda: has_outcome(app, "r", "debit#1" if what == "small" else "large#1"))
        await die(app)
        before = list(calls)
        async with make(workflows=[pays_after]) as app:
            assert await app.handle("r").result() == (5 if what == "small" else 100_000)
            assert calls[len(before) :] == [], "neither the task nor what was before it"
            assert await app.run(all_lines) == [["ann", 5] if what == "small" else ["x", 1]]
            assert await app.store.mailbox("r") == []

    play(scenario)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_whatever_commit_it_dies_at_the_writes_are_there_once(
    play: Callable[..., Any], when: Any, durability: Any
) -> None:
    @workflow
    async def moves(n: int) -> None:
        await open_accounts.aio()
        async with ctx.saga():
            await debit.aio(f"from {n}", -5)
            ctx.compensate(debit, f"from {n}", 5)
            await asyncio.gather(debit.aio(f"to {n}", 3), debit.aio(f"fee {n}", 2))
            ctx.compensate(debit, f"to {n}", -3)
            ctx.compensate(debit, f"fee {n}", -2)
            raise ValueError("moved by mistake")

    async def life(make: Callable[..., Stepwell], n: int) -> bool:
        app = make(workflows=[moves])
        await app.open()
        fuse = Fuse(app, n, when)
        burnt = await burnt_or_done(fuse, to_its_end(app, n))
        await die(app)
        async with make(workflows=[moves]) as app:
            await to_its_end(app, n)
            mine = [line for line in await app.run(all_lines) if line[0].endswith(f" {n}")]
            assert sorted(mine) == sorted(
                [who, cents]
                for who, amount in ((f"from {n}", 5), (f"to {n}", 3), (f"fee {n}", 2))
                for cents in (amount, -amount)
            )
        return burnt

    async def to_its_end(app: Stepwell, n: int) -> None:
        run = await app.start(moves, n, id=f"m-{n}", durability=durability)
        with pytest.raises(RunFailed, match="by mistake"):
            await run.result()

    async def scenario(make: Callable[..., Stepwell]) -> None:
        n = 1
        while await life(make, n):
            n += 1
        assert n > 6

    play(scenario)


@pytest.mark.parametrize("point", ["entries", "posted", "commit"])
def test_a_store_that_breaks_at_any_point_and_takes_it_again_has_it_once(
    play: Callable[..., Any], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instore, "NO_ROOM_SECONDS", 0)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            app.engine.store_retry = 1000
            runs = [await app.start(pays_after, "small") for _ in range(5)]
            await until(lambda: calls == ["held"] * 5)
            passed = 0

            def hook(name: str) -> None:
                nonlocal passed
                if name == point:
                    passed += 1
                    if passed % 2:
                        raise StoreFull("no room")

            app.store.fault(hook)  # type: ignore[attr-defined]  # both stores have it, for tests
            World.gate.set()
            results = await asyncio.gather(*(run.result() for run in runs))
            app.store.fault(None)  # type: ignore[attr-defined]  # as above
            assert passed > 1
            assert sorted(results) == [5, 10, 15, 20, 25]
            assert await app.run(all_lines) == [["ann", 5]] * 5

    play(scenario)


class LaterClock(SystemClock):
    """The machine's clock, two hours ahead: the lease of an engine before has passed."""

    def now(self) -> int:
        return super().now() + 7200 * SECOND


def test_an_engine_that_has_lost_its_runs_to_another_one_writes_nothing_for_them(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        first = make(workflows=[pays_after])
        await first.open()
        await first.start(pays_after, "small", id="r")
        await until(lambda: "held" in calls)
        frozen = asyncio.Event()
        transact = first.store.transact
        late: list[asyncio.Future[Any]] = []

        def freeze(*given: Any) -> asyncio.Future[Any]:
            async def when_it_thaws() -> Any:
                await frozen.wait()
                return await transact(*given)

            late.append(asyncio.ensure_future(when_it_thaws()))
            return late[0]

        first.store.transact = freeze  # type: ignore[method-assign]  # it stands before the store
        World.gate.set()
        await until(lambda: bool(late))
        async with make(workflows=[pays_after], clock=LaterClock()) as second:
            assert await second.handle("r").result() == 5
            assert calls.count("debit ann") == 1
            frozen.set()
            await asyncio.wait(late)
            await asyncio.sleep(0)
            assert type(late[0].exception()).__name__ == "Fenced"
            assert "r" not in first.engine.runners
            assert calls.count("debit ann") == 1
            assert await second.run(all_lines) == [["ann", 5]]
            await die(first)

    play(scenario)


# -- cancellation ------------------------------------------------------------------------------------------------------


def test_a_step_that_is_cancelled_before_it_is_committed_writes_nothing(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(pays_after, "small", id="r")
            await until(lambda: "held" in calls)
            transact, waiting = app.store.transact, []

            def keep(*given: Any) -> asyncio.Future[Any]:
                waiting.append((given, asyncio.get_running_loop().create_future()))
                return waiting[0][1]

            app.store.transact = keep  # type: ignore[method-assign]  # it stands before the store
            World.gate.set()
            await until(lambda: bool(waiting))
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
            app.store.transact = transact  # type: ignore[method-assign]  # as above
            with pytest.raises(Fenced):
                await transact(*waiting[0][0])
            assert calls == ["held"]
            assert await app.run(all_lines) == []

    play(scenario)


def test_an_outcome_that_comes_too_late_for_its_run_is_used_up(play: Callable[..., Any]) -> None:
    @workflow
    async def gives_up() -> str:
        await open_accounts.aio()
        try:
            async with asyncio.timeout(0.005):
                await debit.aio("ann", 5)
        except TimeoutError:
            pass
        return str(await ctx.signal("go"))

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            transact = app.store.transact

            def slow(*given: Any) -> asyncio.Future[Any]:
                async def later() -> Any:
                    if len(calls) == 0 and opened:
                        await World.gate.wait()
                    opened.append(1)
                    return await transact(*given)

                return asyncio.ensure_future(later())

            opened: list[int] = []
            app.store.transact = slow  # type: ignore[method-assign]  # it stands before the store
            run = await app.start(gives_up, id="r")
            await until(lambda: _waits_for_signal(app, "r"))
            World.gate.set()
            await run.signal("go", "on")
            assert await run.result() == "on"
            assert await app.store.mailbox("r") == []
            assert calls == [], "it had been given up before it began"

    play(scenario)


async def _waits_for_signal(app: Stepwell, id: str) -> bool:
    return any(wait.wait == "signal" for wait in (await app.state(id)).waits.values())


# -- what is refused ---------------------------------------------------------------------------------------------------


@task(transactional=True, retry=Retry(attempts=5, first="1ms"))
def does(statement: str) -> None:
    calls.append(statement)
    ctx.connection.execute("INSERT INTO ledger VALUES ('x', 1)")
    match statement:
        case "commit()":
            ctx.connection.commit()
        case "rollback()":
            ctx.connection.rollback()
        case "close()":
            ctx.connection.close()
        case "emit":
            ctx.emit("x")
        case _:
            ctx.connection.execute(statement)


@workflow
async def tries(statement: str) -> None:
    await open_accounts.aio()
    await does.aio(statement)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("commit()", r"may not use commit\(\)"),
        ("rollback()", r"may not use rollback\(\)"),
        ("close()", r"may not use close\(\)"),
        ("COMMIT", "begins or ends a transaction"),
        ("BEGIN", "begins or ends a transaction"),
        ("PRAGMA synchronous = OFF", "PRAGMA"),
        ("ATTACH 'other.db' AS other", "attaches another file"),
        ("DELETE FROM journal", "journal"),
        ("UPDATE runs SET status = 'completed'", "runs"),
        ("CREATE TEMP TABLE t (x)", "temporary"),
        ("emit", "ctx.emit does not work here: a transactional task"),
    ],
)
def test_what_would_break_the_promise_is_refused_and_nothing_is_written(
    play: Callable[..., Any], statement: str, said: str
) -> None:
    async def story(app: Stepwell) -> None:
        run = await app.start(tries, statement, id="r")
        with pytest.raises(RunFailed, match=said):
            await run.result()
        failed = [s.entry for s in await app.entries("r") if isinstance(s.entry, StepFailed)]
        if failed[0].error.type == "stepwell.errors.DefinitionError":
            assert calls == [statement], "what is wrong with the task is not tried again"
        else:  # a store in memory has no such table
            assert "no such table" in failed[0].error.message
        assert await app.run(all_lines) == []

    play_on(play, story)


def test_a_run_in_memory_has_nothing_to_commit_with(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stepwell(tmp_path / "runs.db") as app:
            run = await app.start(pays, "ann", 5, durability="memory")
            with pytest.raises(RunFailed, match="durability='memory' is not in the store"):
                await run.result()

    asyncio.run(story())


@pytest.mark.parametrize("option", ["timeout", "total_timeout", "heartbeat", "executor"])
def test_what_could_stop_it_half_way_does_not_go_with_it(option: str) -> None:
    options: Any = {option: "1s" if option != "executor" else "process"}
    with pytest.raises(DefinitionError, match="cannot be stopped half-way"):
        task(transactional=True, **options)(lambda: None)
    with pytest.raises(DefinitionError, match="cannot be stopped half-way"):
        debit.with_options(**options)


def test_it_must_be_a_plain_function() -> None:
    with pytest.raises(DefinitionError, match="must be a plain `def`"):

        @task(transactional=True)
        async def waits() -> None: ...


def test_the_connection_is_for_transactional_tasks_under_an_engine(play: Callable[..., Any]) -> None:
    @task
    async def ordinary() -> str:
        try:
            ctx.connection.execute("SELECT 1")
        except WorkflowBodyError as error:
            return str(error)
        return "connected"

    @workflow
    async def body() -> list[str]:
        try:
            ctx.connection.execute("SELECT 1")
        except WorkflowBodyError as error:
            return [str(error), await ordinary()]
        return []

    async def story(app: Stepwell) -> None:
        for said in await app.run(body):
            assert "ctx.connection belongs in a task marked @task(transactional=True)" in said

    play_on(play, story)
    with pytest.raises(WorkflowBodyError, match=r"nothing runs.*stepwell\.testing\.Bench"):
        debit("ann", 5)


def test_the_testing_kit_runs_transactional_tasks_and_lets_them_crash() -> None:
    with Bench() as bench:
        bench.crash_at(debit, "after")
        run = bench.start(pays, "ann", 5)
        assert run.result() == 5
        assert bench.run(all_lines) == [["ann", 5]]
        assert calls in (["debit ann"], ["debit ann"] * 2)
        starts = [one.entry for one in run.journal if isinstance(one.entry, StepStarted)]
        assert [(str(start.path), start.attempt) for start in starts][:2] == [("open_accounts#1", 1), ("debit#1", 1)]
