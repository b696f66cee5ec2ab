"""What nodes say besides their work: caches, limits, keys, time limits, schemas, retention; and what is kept secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from graphwork import keyed
from virtually import SECOND, Virtual

from stepwell import Stepwell, ctx, graph_workflow, task
from stepwell.engine.limits import Limits
from stepwell.errors import RunFailed
from stepwell.model.entries import StepStarted

Play = Callable[..., Any]


def graph(nodes: str, more: str = "", id: str = "g") -> Any:
    return graph_workflow(f"stepwell: 1\nid: {id}\n{more}\nnodes:\n{nodes}")


class Log:
    """Tasks of which it is noted when they began and ended, in seconds of virtual time."""

    def __init__(self, virtual: Virtual) -> None:
        self.virtual = virtual
        self.began: list[tuple[str, float]] = []
        self.most = 0
        self._now = 0

    @property
    def now(self) -> float:
        return self.virtual.now / SECOND

    def work(self, seconds: float = 1) -> Any:
        @task(name="work")
        async def work(what: Any = "") -> Any:
            self.began.append((what or ctx.step.partition("#")[0], self.now))
            self._now += 1
            self.most = max(self.most, self._now)
            try:
                await asyncio.sleep(seconds)
            finally:
                self._now -= 1
            return f"{what}{len(self.began)}"

        return work


# -- cache ------------------------------------------------------------------------------------------------------------


def test_runs_share_what_a_node_s_cache_keeps_until_it_is_too_old() -> None:
    virtual = Virtual()
    log = Log(virtual)
    cached = graph("  a: {task: work, inputs: {what: '{{ input.what }}'}, cache: {ttl: 1h}}")
    other = graph("  b: {task: work, inputs: {what: '{{ input.what }}'}, cache: true}", id="other")
    by_key = graph(
        "  c: {task: work, inputs: {what: '{{ run.id }}'}, cache: {key: '{{ input.what }}', ttl: 1h}}", id="k"
    )

    async def scenario() -> None:
        async with virtual.make(tasks=[log.work()]) as app:
            assert await app.run(cached, what="x") == "x1"
            assert await app.run(cached, what="x") == "x1"
            assert await app.run(other, what="x") == "x1"  # the same task and input
            assert await app.run(cached, what="y") == "y2"
            await asyncio.sleep(3700)
            assert await app.run(cached, what="x") == "x3"
            assert await app.run(cached, what="x") == "x3"
            first = await app.run(by_key, what="x")
            assert await app.run(by_key, what="x") == first
            assert await app.run(by_key, what="z") != first
            assert len(log.began) == 5

    virtual.play(scenario())


def test_an_attempt_that_failed_is_not_kept_and_a_cached_node_is_one_in_a_map_too(play: Play) -> None:
    count = []

    @task
    async def odd(n: int) -> int:
        count.append(n)
        if n == 3 and count.count(3) == 1:
            raise ValueError("not yet")
        return n * 10

    cached = graph(
        "  each: {map: [1, 2, 1, 3], tolerate: 1, concurrency: 1, "
        "do: {a: {task: odd, inputs: {n: '{{ item }}'}, cache: true}}}"
    )

    async def scenario(make: Any) -> None:
        count.clear()
        async with make(tasks=[odd]) as app:
            assert (await app.run(cached))["results"] == [10, 20, 10, None]
            assert count == [1, 2, 3]
        async with make(tasks=[odd]) as app:
            assert (await app.run(cached))["results"] == [10, 20, 10, 30]
            assert count == [1, 2, 3, 3]

    play(scenario)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_node_s_concurrency_holds_over_all_runs_and_by_key() -> None:
    virtual = Virtual()
    log = Log(virtual)
    limited = graph("  each: {map: '{{ input.n }}', do: {a: {task: work, concurrency: 2}}}")
    by_key = graph(
        "  each: {map: '{{ input.n }}', do: {a: {task: work, inputs: {what: '{{ item }}'}, "
        "concurrency: {limit: 1, key: '{{ item }}'}}}}",
        id="keyed",
    )

    async def scenario() -> None:
        async with virtual.make(tasks=[log.work(10)]) as app:
            runs = [await app.start(limited, n=[1, 2, 3]) for _ in range(2)]
            for run in runs:
                await run.result()
            assert (log.most, log.now) == (2, 30)
            log.began.clear()
            await app.run(by_key, n=["a", "b", "a", "b", "a"])
            assert [what for what, at in log.began if at == 30] == ["a", "b"]
            assert log.now == 60

    virtual.play(scenario())


def test_a_node_s_rate_is_kept_and_higher_priorities_go_first() -> None:
    virtual = Virtual()
    log = Log(virtual)
    rated = graph("  each: {map: [1, 2, 3, 4, 5], do: {a: {task: work, rate: 2/10s}}}")
    ordered = graph("  a: {task: work}\n  b: {task: work, priority: 5}\n  c: {task: work, priority: -1}", id="ordered")

    async def scenario() -> None:
        async with virtual.make(tasks=[log.work(0)]) as app:
            await app.run(rated)
            assert [at // 10 for _, at in log.began] == [0, 0, 1, 1, 2]
        log.began.clear()
        async with virtual.make(tasks=[log.work(1)], limits=Limits(attempts=1)) as app:
            await app.run(ordered)
            assert [what for what, _ in log.began[1:]] in (["b", "c"], ["a", "c"])

    virtual.play(scenario())


def test_a_node_s_delay_is_a_timer_that_outlives_the_process() -> None:
    virtual = Virtual()
    log = Log(virtual)
    delayed = graph("  a: {task: work}\n  b: {task: work, needs: a, delay: '{{ input.wait }}'}")

    async def scenario() -> None:
        async with virtual.make(tasks=[log.work()]) as app:
            await app.start(delayed, wait="2h", id="r")
            await asyncio.sleep(3600)
            assert [what for what, _ in log.began] == ["a"]
        async with virtual.make(tasks=[log.work()]) as app:
            await app.handle("r").result()
            assert log.began == [("a", 0), ("b", 7201)]

    virtual.play(scenario())


def test_what_an_attempt_may_take_and_what_all_of_them_may() -> None:
    virtual = Virtual()
    log = Log(virtual)
    slow = graph(
        "  a: {task: work, timeout: {attempt: 5s, total: 11s}, "
        "retry: {attempts: 9, first: 1s, backoff: 1, jitter: false}}"
    )
    quiet = graph(
        "  a: {task: work, timeout: {heartbeat: 3s}}\n  b: {transform: late, needs: 'a:timeout'}",
        "result: '{{ b ?? null }}'",
        "quiet",
    )

    async def scenario() -> None:
        async with virtual.make(tasks=[log.work(100)]) as app:
            with pytest.raises(RunFailed, match=r"(?i)time"):
                await app.run(slow)
            assert [at for _, at in log.began][:2] == [0, 6]
            assert log.now <= 12
            assert await app.run(quiet) == "late"

    virtual.play(scenario())


# -- keys, mocks, schemas, retention ----------------------------------------------------------------------------------


def test_an_idempotency_key_is_the_attempt_s_wherever_it_runs(play: Play) -> None:
    @task
    async def seen() -> str:
        return ctx.idempotency_key

    @task
    def in_thread() -> str:
        return ctx.idempotency_key

    keys = graph(
        """
  a: {task: seen, idempotency_key: "order-{{ input.order }}"}
  b: {task: in_thread, idempotency_key: "{{ run.id }}/x"}
  c: {task: keyed, idempotency_key: "order-{{ input.order }}"}
  d: {task: seen}
"""
    )

    async def scenario(make: Any) -> None:
        async with make(tasks=[seen, in_thread, keyed]) as app:
            run = await app.start(keys, order=7, id="r")
            found = await run.result()
            assert found["c"]["key"] == "order-7"
            assert (found["a"], found["b"], found["d"]) == ("order-7", "r/x", "r:d#1")

    play(scenario)


def test_a_mocked_node_says_what_it_would_have_said(play: Play) -> None:
    mocked = graph(
        """
  a: {task: nowhere, mock: {output: {n: "{{ input.n }}"}}}
  b: {http: {url: "https://example.org/"}, mock: {error: "no line"}, needs: a}
  c: {transform: "{{ b.error.message }}", needs: "b:error"}
  d: {human: "Well?", mock: {port: timeout, output: 1}, needs: a}
  e: {transform: "late {{ a.n }}", needs: "d:timeout"}
""",
        "result: {c: '{{ c ?? null }}', e: '{{ e ?? null }}'}",
    )

    async def scenario(make: Any) -> None:
        async with make() as app:
            assert await app.run(mocked, n=3) == {"c": "no line", "e": "late 3"}
            assert await app.inbox() == []

    play(scenario)


def test_an_output_that_does_not_fit_its_schema_fails_the_node_and_can_be_tried_again(play: Play) -> None:
    given: list[Any] = []

    @task
    async def give() -> Any:
        return given[0]

    checked = graph(
        "  a: {task: give, output: {schema: {type: object, required: [ok]}}}\n  b: {transform: fine, needs: a}"
    )

    async def scenario(make: Any) -> None:
        given[:] = [{"no": 1}]
        async with make(tasks=[give]) as app:
            run = await app.start(checked)
            with pytest.raises(RunFailed, match=r"the output of node a does not fit its schema.*ok"):
                await run.result()
            given[:] = [{"ok": 1}]
            again = await app.rerun_from(run.id, "a")
            assert await again.result() == "fine"

    play(scenario)


# -- environment and secrets ------------------------------------------------------------------------------------------

SECRET = "s3cr3t-abc"

SECRETIVE = """
stepwell: 1
id: secretive
env: [SHOP_URL]
secrets: [SHOP_TOKEN]
nodes:
  a: {task: use, inputs: {token: "Bearer {{ secret.SHOP_TOKEN }}", url: "{{ env.SHOP_URL }}/x"}, cache: true}
  b: {task: keyed, inputs: {what: "{{ secret.SHOP_TOKEN }}"}, needs: a}
  c: {set: {token: "{{ secret.SHOP_TOKEN }}"}, needs: b}
  d: {emit: {event: told, data: "{{ secret.SHOP_TOKEN }}"}, needs: c}
  e: {log: {message: "with {{ secret.SHOP_TOKEN }}"}, needs: d}
  f: {transform: {t: "{{ secret.SHOP_TOKEN }}"}, needs: e}
result: {a: "{{ a }}", b: "{{ b }}"}
"""


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    monkeypatch.setenv("SHOP_TOKEN", SECRET)
    monkeypatch.setenv("SHOP_URL", "https://shop.example")
    return []


def user(used: list[tuple[str, str]]) -> Any:
    @task
    async def use(token: str, url: str) -> str:
        used.append((token, url))
        return f"{url} {len(token)}"

    return use


async def everything(app: Stepwell) -> bytes:
    """All that the store has of runs."""
    found = []
    for row in await app.runs():
        found += [msgspec.json.encode(stored.entry) for stored in await app.entries(row.run_id)]
        found.append(await app.export(row.run_id))
    found += [event.body for event in await app.store.events(after=0, topic="told", limit=10)]
    found += [trigger.spec for trigger in await app.triggers()]
    return b"\n".join(found)


def test_secrets_reach_attempts_and_nothing_that_is_kept(
    play: Play, used: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(make: Any) -> None:
        used.clear()
        async with make(tasks=[user(used), keyed]) as app:
            await app.deploy(SECRETIVE)
            first = await (await app.start("secretive", id="one")).result()
            assert first["a"] == "https://shop.example/x 17"
            assert (first["b"]["length"], first["b"]["last"]) == (10, "abc")
            again = await (await app.start("secretive", id="two")).result()
            assert again["a"] == first["a"]
            assert used == [(f"Bearer {SECRET}", "https://shop.example/x")]  # the other run had it from the cache
            kept = await everything(app)
            assert SECRET.encode() not in kept
            assert SECRET not in caplog.text
            assert b"[secret SHOP_TOKEN" in kept
            assert (await app.replay("one")).outcome == "ok"

    play(scenario)


def test_a_secret_that_is_not_set_fails_its_node_and_the_run_goes_on_when_it_is(
    play: Play, used: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(make: Any) -> None:
        used.clear()
        monkeypatch.delenv("SHOP_TOKEN")
        async with make(tasks=[user(used), keyed]) as app:
            await app.deploy(SECRETIVE)
            run = await app.start("secretive", id="one")
            with pytest.raises(RunFailed, match="secret SHOP_TOKEN is not set: give the environment variable"):
                await run.result()
            starts = [stored.entry for stored in await app.entries("one")]
            assert len([entry for entry in starts if isinstance(entry, StepStarted)]) == 1
            monkeypatch.setenv("SHOP_TOKEN", SECRET)
            await run.retry()
            assert (await run.result())["a"] == "https://shop.example/x 17"

    play(scenario)


WAITS = """
stepwell: 1
id: waits
env: [SHOP_URL, LATER]
nodes:
  a: {task: use, inputs: {token: x, url: "{{ env.SHOP_URL }}"}}
  b: {wait_signal: go, needs: a}
  way: {condition: {"==": [{var: env.SHOP_URL}, old]}, needs: b}
  c: {task: use, inputs: {token: "{{ env.LATER }}", url: "{{ env.SHOP_URL }}"}, needs: "way:true"}
"""


def test_a_run_keeps_the_environment_that_it_began_with_and_reads_what_was_missing_when_it_is_there(
    play: Play, used: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(make: Any) -> None:
        used.clear()
        monkeypatch.setenv("SHOP_URL", "old")
        monkeypatch.delenv("LATER", raising=False)
        async with make(tasks=[user(used)]) as app:
            await app.deploy(WAITS)
            await app.start("waits", id="r")
            while (await app.get("r")).status != "waiting":
                await asyncio.sleep(0)
        monkeypatch.setenv("SHOP_URL", "new")
        async with make(tasks=[user(used)]) as app:
            await app.signal("r", "go")
            with pytest.raises(RunFailed, match="LATER"):
                await app.handle("r").result()
        monkeypatch.setenv("LATER", "there")
        async with make(tasks=[user(used)]) as app:
            await app.retry("r")
            await app.handle("r").result()
            assert used == [("x", "old"), ("there", "old")]
            again = await app.rerun("r")
            await app.signal(again.id, "go")
            await again.result()
            assert used[2:] == [("x", "new")]  # and its condition does not hold
            monkeypatch.delenv("SHOP_URL")
            assert (await app.replay("r")).outcome == "ok"

    play(scenario)
