from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from logging_tasks import span_apart
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode

import stepwell
from stepwell import Retry, Stepwell, ctx, task, workflow
from stepwell.errors import DefinitionError, RunFailed
from stepwell.model.ids import StepPath
from stepwell.observe import spans as spans_module
from stepwell.observe.spans import attempt_span_id, run_span_id, trace_id
from stepwell.observe.tracing import has_provider, spans_for

SOURCE = Path(stepwell.__file__).parents[1]


class Seen:
    """What was exported."""

    def __init__(self, sampler: Any = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler) if sampler is not None else TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def __call__(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        (found,) = [span for span in self() if span.name == name]
        return found


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """A tracer provider that the engine takes for the program's own."""
    made = Seen()
    use(made, monkeypatch)
    yield made
    made.provider.shutdown()


def use(made: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.provider)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes without the package's name before each."""
    return {name.removeprefix("stepwell."): value for name, value in (span.attributes or {}).items()}


@task(retry=Retry(attempts=3, first="1ms"))
async def fetch(page: str) -> str:
    with trace.get_tracer("mine").start_as_current_span("parse"):
        if ctx.attempt == 1:
            raise ConnectionError("busy")
    return page


@task
def resize(page: str) -> str:
    trace.get_current_span().set_attribute("pixels", 64)
    with trace.get_tracer("mine").start_as_current_span("crop"):
        return page


@workflow
async def treats(page: str) -> str:
    return await resize.aio(page)


@workflow
async def shops(page: str) -> str:
    found = await fetch(page)
    try:
        await ctx.signal("go", timeout="1ms")
    except TimeoutError:
        pass
    return await treats(found)


def play(story: Callable[[Stepwell], Coroutine[Any, Any, Any]], store: str = "memory://", **settings: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(30), Stepwell(store, **settings) as app:
            return await story(app)

    return asyncio.run(bounded())


def test_runs_attempts_children_and_the_tasks_own_spans_are_one_tree(seen: Seen) -> None:
    async def story(app: Stepwell) -> None:
        run = await app.start(shops, "front", id="s", labels={"shop": "berlin"})
        await run.result()

    play(story)
    run, child = seen.named("run shops"), seen.named("run treats")
    first, second = sorted(
        (span for span in seen() if span.name == "step fetch"), key=lambda span: span.start_time or 0
    )
    resized = seen.named("step resize")
    assert {span.context.trace_id for span in seen() if span.context} == {trace_id("s")}
    assert (run.parent, id_of(run)) == (None, run_span_id("s"))
    assert [parent_of(span) for span in (first, second, child)] == [id_of(run)] * 3
    assert parent_of(resized) == id_of(child)
    assert parent_of(seen.named("crop")) == id_of(resized)
    assert sorted(parent_of(span) or 0 for span in seen() if span.name == "parse") == sorted(
        [id_of(first), id_of(second)]
    )
    assert attributes(resized) | {"run": ""} == {
        "run": "",
        "root": "s",
        "workflow": "treats",
        "step": "resize#1",
        "attempt": 1,
        "pixels": 64,
    }
    assert attributes(run)["label.shop"] == "berlin"
    assert attributes(child)["parent"] == "s"
    assert attributes(run)["status"] == "completed"


def test_a_failed_attempt_has_status_and_exception_and_a_run_tells_of_its_waits(seen: Seen) -> None:
    play(lambda app: app.run(shops, "front"))
    first = min((span for span in seen() if span.name == "step fetch"), key=lambda span: span.start_time or 0)
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "ConnectionError: busy")
    (event,) = first.events
    assert event.attributes is not None
    assert (event.name, event.attributes["exception.type"]) == ("exception", "ConnectionError")
    assert "raise ConnectionError" in str(event.attributes["exception.stacktrace"])
    run = seen.named("run shops")
    assert [event.name for event in run.events] == ["run.started", "wait.started", "wait.timed_out"]
    assert run.status.status_code is StatusCode.UNSET
    assert run.start_time is not None
    assert run.end_time is not None
    assert run.start_time <= (first.start_time or 0) <= (first.end_time or 0) <= run.end_time


@task
async def breaks() -> None:
    if ctx.attempt == 1:
        raise ValueError("broken")


@workflow
async def broken() -> None:
    await breaks()


def test_a_retried_run_goes_on_below_a_span_of_its_own(seen: Seen) -> None:
    async def story(app: Stepwell) -> None:
        run = await app.start(broken, id="b")
        with pytest.raises(RunFailed):
            await run.result()
        await run.retry()
        await run.result()

    play(story)
    failed, retried = seen.named("run broken"), seen.named("retry broken")
    one, two = sorted((span for span in seen() if span.name == "step breaks"), key=lambda span: span.start_time or 0)
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(retried)["status"] == "completed"
    assert (parent_of(one), parent_of(two)) == (id_of(failed), id_of(retried))
    assert parent_of(retried) == id_of(failed) == run_span_id("b")


@task
async def notes(word: str) -> str:
    return word


@workflow
async def pauses() -> list[str]:
    first = await notes("first")
    await ctx.signal("go")
    return [first, await notes("second")]


def test_a_run_that_another_engine_goes_on_with_stays_in_one_trace(seen: Seen, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    async def begins(app: Stepwell) -> None:
        run = await app.start(pauses, id="p")
        while (await run.row()).status != "waiting":
            await asyncio.sleep(0.001)

    async def ends(app: Stepwell) -> None:
        await app.signal("p", "go", by="ann")
        await app.handle("p").result()

    play(begins, url)
    assert [span.name for span in seen()] == ["step notes"]
    play(ends, url, workflows=[pauses])
    run = seen.named("run pauses")
    steps = [span for span in seen() if span.name == "step notes"]
    assert [parent_of(span) for span in steps] == [id_of(run)] * 2
    assert [event.name for event in run.events] == ["run.started", "wait.started", "wait.satisfied"]
    (created, *_) = play(lambda app: app.entries("p"), url, tracing=False)
    assert run.start_time == created.entry.at * 1000


def test_an_attempt_that_is_left_behind_ends_its_span_and_says_so(seen: Seen) -> None:
    begun = asyncio.Event()

    @task
    async def hangs() -> None:
        begun.set()
        await asyncio.sleep(3600)

    @workflow
    async def hung() -> None:
        await hangs()

    async def story() -> None:
        async with Stepwell("memory://", grace=0) as app:
            await app.start(hung, id="h")
            await begun.wait()

    asyncio.run(story())
    (event,) = seen.named("step hangs").events
    assert event.name == "left"
    assert id_of(seen.named("step hangs")) == attempt_span_id("h", StepPath((), "hangs", 1), 1)


def test_a_child_process_knows_the_span_of_its_attempt(seen: Seen) -> None:
    async def story(app: Stepwell) -> Any:
        run = await app.start(span_apart, id="c")
        return await run.result()

    found = play(story)
    assert found["process"] != os.getpid()
    assert (found["trace"], found["span"]) == (trace_id("c"), id_of(seen.named("step current_span")))


def test_a_sampler_takes_whole_trees_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Seen(ParentBased(ALWAYS_OFF))
    use(none, monkeypatch)
    play(lambda app: app.run(shops, "front"))
    assert none() == []
    some = Seen(ParentBased(TraceIdRatioBased(0.5)))
    use(some, monkeypatch)

    async def story(app: Stepwell) -> None:
        for number in range(12):
            run = await app.start(treats, "front", id=f"t-{number}")
            await run.result()

    play(story)
    trees: dict[int, set[str]] = {}
    for span in some():
        assert span.context is not None
        trees.setdefault(span.context.trace_id, set()).add(span.name)
    assert 0 < len(trees) < 12
    assert set(map(frozenset, trees.values())) == {frozenset({"run treats", "step resize", "crop"})}


def test_another_tracer_of_the_same_name_is_left_as_it_was(seen: Seen) -> None:
    play(lambda app: app.run(broken_not))
    with trace.get_tracer("stepwell").start_as_current_span("mine"):
        pass
    with trace.get_tracer("stepwell").start_as_current_span("mine too"):
        pass
    assert id_of(seen.named("mine")) != id_of(seen.named("mine too"))


@workflow
async def broken_not() -> None:
    await notes("fine")


def test_tracing_that_fails_harms_no_run(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise RuntimeError("no ids today")

    monkeypatch.setattr(spans_module, "attempt_span_id", fails)
    monkeypatch.setattr(spans_module, "run_span_id", fails)
    assert play(lambda app: app.run(pauses_not)) == "fine"


@workflow
async def pauses_not() -> str:
    return await notes("fine")


def test_there_are_spans_only_where_they_are_wanted(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    play(lambda app: app.run(pauses_not), tracing=False)
    assert seen() == []
    assert has_provider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    assert not has_provider()
    play(lambda app: app.run(pauses_not))
    assert seen() == []


def test_spans_that_cannot_be_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stepwell.observe.spans", None)
    with pytest.raises(DefinitionError, match=r"stepwell\[otel\]"):
        spans_for(True, state_of=lambda run_id: None, read=None)  # type: ignore[arg-type]  # it is not come to


def test_opentelemetry_is_not_imported_where_nobody_has_asked_for_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\n"
        "from stepwell import Stepwell, task, workflow\n\n"
        "@task\nasync def one() -> int:\n    return 1\n\n"
        "@task(executor='process')\ndef apart() -> bool:\n"
        "    import sys\n    return any(name.startswith('opentelemetry') for name in sys.modules)\n\n"
        "@workflow\nasync def flow() -> list:\n    return [await one(), await apart.aio()]\n\n"
        "async def main():\n    async with Stepwell('memory://') as app:\n        return await app.run(flow)\n\n"
        "if __name__ == '__main__':\n"
        "    print(asyncio.run(main()), any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == "[1, False] False", done.stderr
