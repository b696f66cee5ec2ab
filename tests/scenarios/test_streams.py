"""What tasks emit reaches readers at once, in order and once, and the journal without a gap."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import emitters
import msgspec
import pytest
from dying import die
from emitters import emits, emits_in_a_process, emits_in_a_thread
from patience import until

from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.engine import streams
from stepwell.errors import RunFailed, RunNotFound, WorkflowBodyError
from stepwell.model.entries import INLINE_LIMIT, StepCompleted, StreamBlock
from stepwell.usecases import streams as reading
from stepwell.usecases.streams import Chunk


class World:
    """What tasks touch outside the engine."""

    gate: asyncio.Event
    listening: asyncio.Event
    emitted = 0


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    World.gate = asyncio.Event()
    World.listening = asyncio.Event()
    World.listening.set()
    World.emitted = 0


@pytest.fixture
def never_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is journaled because time has passed."""
    monkeypatch.setattr(streams, "FLUSH", 3600 * 1_000_000)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is emitted is journaled as soon as may be."""
    monkeypatch.setattr(streams, "FLUSH", 0)


@task
async def talks(*chunks: str) -> str:
    await World.listening.wait()
    for chunk in chunks:
        await ctx.emit(chunk, tokens=1)
    await World.gate.wait()
    await ctx.emit("end", tokens=1)
    return "said"


@workflow
async def talk(*chunks: str) -> str:
    return await talks(*chunks)


@workflow
async def emit_all(*chunks: str) -> int:
    return await emits(*chunks)


@workflow
async def emit_many(where: str, count: int, size: int = 1) -> int:
    return await {"thread": emits_in_a_thread, "process": emits_in_a_process}[where].aio(count, size)


async def read(app: Stepwell, id: str, **options: Any) -> list[Chunk]:
    """The whole stream."""
    return [chunk async for chunk in app.stream(id, **options)]


async def some(stream: AsyncIterator[Chunk], count: int) -> list[Any]:
    """The next values."""
    return [(await anext(stream)).value for _ in range(count)]


async def blocks(app: Stepwell, id: str) -> list[StreamBlock]:
    return [stored.entry for stored in await app.entries(id) if isinstance(stored.entry, StreamBlock)]


def numbered(chunks: list[Chunk]) -> dict[tuple[str, int], list[Any]]:
    """Values by step and attempt; there is no gap, none comes twice, and all are in order."""
    found: dict[tuple[str, int], list[Any]] = {}
    for chunk in chunks:
        values = found.setdefault((chunk.step, chunk.attempt), [])
        values.append(chunk.value)
        assert chunk.number == len(values), chunks
    return found


# -- readers -----------------------------------------------------------------------------------------------------------


def test_a_reader_gets_chunks_before_they_are_journaled_in_order_and_once(
    play: Callable[..., Any], never_by_time: None
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            World.listening = asyncio.Event()
            run = await app.start(talk, "a", "b", "c", id="r")
            stream = app.stream("r")
            first = asyncio.ensure_future(anext(stream))
            await until(lambda: app.engine.feed.has_readers)
            World.listening.set()
            assert await first == Chunk("talks#1", 1, 1, "a")
            assert await some(stream, 2) == ["b", "c"]
            assert await blocks(app, "r") == []
            World.gate.set()
            assert [chunk.value async for chunk in stream] == ["end"]
            assert await run.result() == "said"

    play(scenario)


def test_a_late_reader_replays_from_the_journal(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            assert await app.run(emit_all, "a", "b") == 2
            (row,) = await app.runs()
        async with make(drive=False) as client:
            chunks = await read(client, row.run_id)
            assert [(chunk.number, chunk.value) for chunk in chunks] == [(1, "a"), (2, "b")]
            assert chunks[0].seq == chunks[1].seq > 0

    play(scenario)


def test_a_reader_that_comes_in_the_middle_gets_what_was_before_and_what_comes(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FLUSH", 1000)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            await app.start(talk, "a", "b", id="r")
            await until(lambda: _has_blocks(app, "r", 1))
            stream = app.stream("r")
            assert await some(stream, 2) == ["a", "b"]
            World.gate.set()
            assert [chunk.value async for chunk in stream] == ["end"]

    play(scenario)


async def _has_blocks(app: Stepwell, id: str, count: int) -> bool:
    return len(await blocks(app, id)) >= count


def test_a_reader_that_comes_back_goes_on_after_the_seq_that_it_has_seen(
    play: Callable[..., Any], at_once: None
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            await app.start(talk, "a", "b", id="r")
            await until(lambda: _has_said(app, "r", 2))
            seen = (await app.get("r")).next_seq - 1
            stream = app.stream("r", after=seen)
            coming = asyncio.ensure_future(anext(stream))
            World.gate.set()
            assert (await coming).value == "end"
            assert [chunk async for chunk in stream] == []
            assert await read(app, "r", after=10_000) == []

    play(scenario)


async def _has_said(app: Stepwell, id: str, count: int) -> bool:
    return sum(len(msgspec.json.decode(block.chunks)) for block in await blocks(app, id)) >= count


def test_a_client_beside_the_engine_reads_what_is_committed(play: Callable[..., Any], at_once: None) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app, make(drive=False) as client:
            await app.start(talk, "a", "b", id="r")
            stream = client.stream("r")
            assert await some(stream, 2) == ["a", "b"]
            World.gate.set()
            assert [chunk.value async for chunk in stream] == ["end"]

    play(scenario)


def test_a_reader_of_one_step_hears_only_that(play: Callable[..., Any]) -> None:
    @workflow
    async def both() -> None:
        await asyncio.gather(emits("a", "b"), emits("c"))

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            await app.start(both, id="r")
            assert [chunk.value for chunk in await read(app, "r", step="emits#2")] == ["c"]
            assert numbered(await read(app, "r")) == {("emits#1", 1): ["a", "b"], ("emits#2", 1): ["c"]}

    play(scenario)


def test_a_slow_reader_misses_nothing(play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WAITING_BYTES", 1000)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(emit_many, "thread", 2000, id="r")
            stream = app.stream("r")
            first = await anext(stream)
            await run.result()
            chunks = [first, *[chunk async for chunk in stream]]
            assert [chunk.value for chunk in chunks] == [str(number) for number in range(2000)]
            numbered(chunks)

    play(scenario)


def test_a_stream_ends_with_a_run_that_is_set_aside_and_there_is_none_of_a_run_that_is_not_there(
    play: Callable[..., Any],
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(talk, "a", id="r")
            stream = app.stream("r")
            assert await some(stream, 1) == ["a"]
            await run.pause()
            assert [chunk async for chunk in stream] == []
            World.gate.set()
            with pytest.raises(RunNotFound):
                await read(app, "other")

    play(scenario)


@pytest.mark.parametrize("durability", ["sync", "async", "exit", "memory"])
def test_runs_of_every_durability_have_streams(play: Callable[..., Any], durability: Any) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(emit_all, "a", "b", id="r", durability=durability)
            assert [chunk.value for chunk in await read(app, "r")] == ["a", "b"]
            assert await run.result() == 2

    play(scenario)


# -- attempts ----------------------------------------------------------------------------------------------------------


@task(retry=Retry(attempts=3, first="1ms"))
async def third_time() -> str:
    for number in range(ctx.attempt):
        await ctx.emit(f"{ctx.attempt}:{number}", tokens=10)
    if ctx.attempt < 3:
        raise ValueError("again")
    return "done"


@workflow
async def tries() -> str:
    return await third_time()


def test_each_attempt_has_a_stream_of_its_own_and_what_failed_attempts_used_counts(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            assert await (await app.start(tries, id="r")).result() == "done"
            assert numbered(await read(app, "r")) == {
                ("third_time#1", 1): ["1:0"],
                ("third_time#1", 2): ["2:0", "2:1"],
                ("third_time#1", 3): ["3:0", "3:1", "3:2"],
            }
            (completed,) = [s.entry for s in await app.entries("r") if isinstance(s.entry, StepCompleted)]
            assert completed.usage == {"tokens": 30}, "the attempt's own"
            assert (await app.state("r")).usage == {"tokens": 60}, "tokens were spent"

    play(scenario)


def test_what_was_emitted_before_a_crash_is_kept_up_to_the_last_block_and_the_next_attempt_begins_anew(
    play: Callable[..., Any], at_once: None
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        app = make(workflows=[talk])
        await app.open()
        await app.start(talk, "a", "b", id="r")
        await until(lambda: _has_said(app, "r", 2))
        await die(app)
        async with make(workflows=[talk]) as app:
            World.gate.set()
            assert await app.handle("r").result() == "said"
            assert numbered(await read(app, "r")) == {
                ("talks#1", 1): ["a", "b"],
                ("talks#1", 2): ["a", "b", "end"],
            }
            assert (await app.state("r")).usage == {"tokens": 5}

    play(scenario)


def test_what_an_attempt_emitted_before_it_was_cancelled_is_journaled(
    play: Callable[..., Any], never_by_time: None
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(talk, "a", "b", id="r")
            stream = app.stream("r")
            assert await some(stream, 2) == ["a", "b"]
            await run.cancel()
            assert [chunk async for chunk in stream] == []
            assert numbered(await read(app, "r")) == {("talks#1", 1): ["a", "b"]}
            assert (await app.state("r")).usage == {"tokens": 2}

    play(scenario)


def test_what_was_emitted_before_an_engine_closes_is_journaled(play: Callable[..., Any], never_by_time: None) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(grace=0) as app:
            await app.start(talk, "a", "b", id="r")
            stream = app.stream("r")
            assert await some(stream, 2) == ["a", "b"]
        async with make(workflows=[talk]) as app:
            World.gate.set()
            await app.handle("r").result()
            assert numbered(await read(app, "r"))["talks#1", 1] == ["a", "b"]

    play(scenario)


# -- the journal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loop", "thread", "process"])
def test_ten_thousand_quick_chunks_make_a_handful_of_entries(play: Callable[..., Any], where: str) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            numbers = [str(number) for number in range(10_000)]
            if where == "loop":
                await app.start(emit_all, *numbers, id="r")
            else:
                await app.start(emit_many, where, 10_000, id="r")
            assert [chunk.value for chunk in await read(app, "r")] == numbers
            found = await blocks(app, "r")
            assert len(found) <= 40
            assert found[0].first == 1

    play(scenario)


def test_a_run_that_commits_all_the_time_does_not_journal_its_streams_with_every_commit(
    play: Callable[..., Any], never_by_time: None
) -> None:
    @task
    async def step(number: int) -> int:
        return number

    @workflow
    async def busy() -> None:
        async def steps() -> None:
            for number in range(50):
                await step(number)
            await ctx.signal("never")

        beside = asyncio.create_task(steps())
        await talks(*"abcdefgh")
        beside.cancel()

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(busy, id="r")
            await until(lambda: _waits(app, "r"))
            assert await blocks(app, "r") == []
            World.gate.set()
            await run.result()
            assert len(await blocks(app, "r")) == 1

    play(scenario)


async def _waits(app: Stepwell, id: str) -> bool:
    return bool((await app.state(id)).waits)


def test_a_block_is_never_larger_than_an_entry_may_be(play: Callable[..., Any], never_by_time: None) -> None:
    sizes = [INLINE_LIMIT - 4, 1, INLINE_LIMIT // 2, INLINE_LIMIT // 2 - 7, 1, 30_000, 30_000, 30_000]

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            await app.run(emit_all, *("x" * size for size in sizes))
            (row,) = await app.runs()
            assert [len(chunk.value) for chunk in await read(app, row.run_id)] == sizes
            found = [len(bytes(block.chunks)) for block in await blocks(app, row.run_id)]
            assert max(found) == INLINE_LIMIT
            assert len(found) == 4

    play(scenario)


# -- refusals ----------------------------------------------------------------------------------------------------------


@task
async def emits_anything(what: str) -> None:
    match what:
        case "too large":
            await ctx.emit("x" * (INLINE_LIMIT - 3))
        case "no JSON":
            await ctx.emit(threading.Lock())
        case "no count":
            await ctx.emit("x", tokens="many")  # type: ignore[arg-type]


@workflow
async def refused(what: str) -> None:
    await emits_anything(what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("too large", "a chunk emitted by step emits_anything#1 is 65,535 bytes of JSON; the limit is 65,534"),
        ("no JSON", "a chunk"),
        ("no count", "tokens='many'; counts are whole numbers"),
    ],
)
def test_a_chunk_that_cannot_be_kept_is_refused_where_it_is_emitted(
    play: Callable[..., Any], what: str, said: str
) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            with pytest.raises(RunFailed, match=said) as failed:
                await app.run(refused, what)
            assert failed.value.failure.cause is not None
            assert not failed.value.failure.cause.retryable or what == "no JSON"

    play(scenario)


def test_in_a_child_process_a_chunk_is_refused_in_the_task_itself(play: Callable[..., Any]) -> None:
    @workflow
    async def far() -> str:
        return await emitters.emits_too_much.aio()

    @workflow
    async def unwritable() -> None:
        await emitters.emits_what_is_no_json.aio()

    @workflow
    async def miscounted() -> None:
        await emitters.emits_and_counts_wrongly.aio()

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            assert "emits_too_much#1 is 100,002 bytes of JSON; the limit is 65,534" in await app.run(far)
            with pytest.raises(RunFailed, match="a chunk"):
                await app.run(unwritable)
            with pytest.raises(RunFailed, match=r"tokens=1\.5; counts are whole numbers"):
                await app.run(miscounted)

    play(scenario)


def test_emitting_on_an_executor_given_by_name_is_refused_instead_of_lost(play: Callable[..., Any]) -> None:
    @workflow
    async def elsewhere() -> None:
        await emitters.emits_elsewhere.aio()

    async def scenario(make: Callable[..., Stepwell]) -> None:
        with ThreadPoolExecutor(1) as pool:
            async with make(executors={"elsewhere": pool}) as app:
                with pytest.raises(RunFailed, match=r"ctx\.emit does not work here: its executor"):
                    await app.run(elsewhere)

    play(scenario)


def test_a_workflow_body_has_no_stream_and_outside_the_engine_emitting_does_nothing(play: Callable[..., Any]) -> None:
    @workflow
    async def body() -> str:
        try:
            await ctx.emit("x")
        except WorkflowBodyError as error:
            return str(error)
        return "emitted"

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            assert "belongs in a task" in await app.run(body)
        assert await emits("a", "b") == 2
        assert emits_in_a_thread(3) == 3

    play(scenario)


# -- counting ----------------------------------------------------------------------------------------------------------


@task
async def says_words() -> None:
    await ctx.emit("one two", words=2)
    await ctx.emit("three", words=1, lines=1)


@workflow
async def words() -> None:
    await asyncio.gather(says_words(), says_words())


def test_what_is_used_is_summed_per_step_and_per_run(play: Callable[..., Any]) -> None:
    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(words, id="r")
            await run.result()
            completed = [s.entry for s in await app.entries("r") if isinstance(s.entry, StepCompleted)]
            assert [entry.usage for entry in completed] == [{"words": 3, "lines": 1}] * 2
            assert (await app.state("r")).usage == {"words": 6, "lines": 2}

    play(scenario)


def test_a_hook_counts_for_tasks_that_do_not(play: Callable[..., Any]) -> None:
    @workflow
    async def counted() -> None:
        await emits("four", "seven..")
        await says_words()

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(count_usage=lambda chunk: {"letters": len(chunk)}) as app:
            run = await app.start(counted, id="r")
            await run.result()
            assert (await app.state("r")).usage == {"letters": 11, "words": 3, "lines": 1}

    play(scenario)


@pytest.mark.parametrize("where", ["loop", "thread", "process"])
def test_a_hook_that_fails_fails_the_attempt_and_says_so(play: Callable[..., Any], where: str) -> None:
    def hook(chunk: object) -> dict[str, int]:
        raise RuntimeError("cannot count")

    @workflow
    async def emit_one(where: str) -> None:
        if where == "loop":
            await emits("x")
        elif where == "thread":
            await emits_in_a_thread_uncounted.aio()
        else:
            await emitters.emits_on_a_loop_of_its_own.aio(1)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make(count_usage=hook) as app:
            with pytest.raises(RunFailed, match=r"count_usage=…\) raised RuntimeError for a chunk: cannot count"):
                await app.run(emit_one, where)

    play(scenario)


@task
def emits_in_a_thread_uncounted() -> None:
    ctx.emit("x")


# -- back-pressure -----------------------------------------------------------------------------------------------------


class Jam:
    """A store that takes no appends until it is let go."""

    def __init__(self, app: Stepwell) -> None:
        self._append = app.store.append
        self._kept: list[tuple[Any, asyncio.Future[None]]] = []
        app.store.append = self.append  # type: ignore[method-assign]  # it stands before the store

    def append(self, append: Any) -> asyncio.Future[None]:
        """Keep it."""
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept.append((append, held))
        return held

    def let_go(self, app: Stepwell) -> None:
        """Do all that was kept, and take more."""
        app.store.append = self._append  # type: ignore[method-assign]
        for append, held in self._kept:
            done = self._append(append)
            done.add_done_callback(lambda done, held=held: held.set_result(done.result()))


@task
async def floods(count: int, size: int) -> int:
    await World.gate.wait()
    for number in range(count):
        World.emitted = number + 1
        await ctx.emit("x" * size)
    return count


@workflow
async def flood(count: int, size: int) -> int:
    return await floods(count, size)


@task
def floods_in_a_thread(count: int, size: int) -> int:
    while not World.gate.is_set():
        threading.Event().wait(0.005)
    for number in range(count):
        World.emitted = number + 1
        ctx.emit("x" * size)
    return count


@workflow
async def flood_in_a_thread(count: int, size: int) -> int:
    return await floods_in_a_thread.aio(count, size)


@pytest.mark.parametrize("flow", [flood, flood_in_a_thread])
def test_those_who_emit_are_held_up_while_the_store_takes_nothing(
    play: Callable[..., Any], flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ROOM", 100_000)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            run = await app.start(flow, 1000, 1000, id="r")
            await until(lambda: _is_in_flight(app, "r"))
            jam = Jam(app)
            World.gate.set()
            await until(lambda: World.emitted >= 100)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert World.emitted <= 101, "100,000 bytes are on their way, and the next one waits"
            jam.let_go(app)
            assert await run.result() == 1000
            assert len(await read(app, "r")) == 1000

    play(scenario)


async def _is_in_flight(app: Stepwell, id: str) -> bool:
    return (await app.state(id)).attempts_in_flight == 1


def test_a_child_process_is_held_up_too(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(streams, "ROOM", 100_000)
    told = tmp_path / "told"

    @workflow
    async def far(path: str) -> int:
        return await emitters.emits_and_tells_how_far.aio(path, 300, 10_000)

    def how_far() -> int:
        return int((told.read_text() if told.exists() else "") or 0)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            await app.run(emit_many, "process", 1)  # a process is there
            run = await app.start(far, str(told), id="r")
            await until(lambda: _is_in_flight(app, "r"))
            jam = Jam(app)
            last = -1
            while how_far() < 10 or how_far() != last:
                last = how_far()
                await asyncio.sleep(0.05)
            assert last < 150, "what is in pipes and on its way, and no more"
            jam.let_go(app)
            assert await run.result() == 300
            assert len(await read(app, "r")) == 300

    play(scenario)


def test_a_run_that_writes_nothing_before_its_end_is_not_held_up(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ROOM", 10_000)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        async with make() as app:
            World.gate.set()
            run = await app.start(flood, 100, 1000, id="r", durability="exit")
            assert await run.result() == 100
            assert len(await read(app, "r")) == 100

    play(scenario)


def test_an_attempt_that_is_held_up_can_be_cancelled(play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ROOM", 10_000)

    async def scenario(make: Callable[..., Stepwell]) -> None:
        app = make()
        await app.open()
        await app.start(flood, 100, 1000, id="r")
        await until(lambda: _is_in_flight(app, "r"))
        Jam(app)
        World.gate.set()
        await until(lambda: World.emitted >= 10)
        await die(app)
        async with make(workflows=[flood]) as app:
            assert await app.handle("r").result() == 100

    play(scenario)
