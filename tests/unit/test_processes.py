from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepwell.engine.envelope import Envelope, Note, Reply, decode_note, decode_reply, encode, run_step
from stepwell.engine.processes import ProcessPool, WorkerDied
from stepwell.errors import DefinitionError
from stepwell.model.failure import Failure

HERE = Path(__file__).parent
LIVENESS = 30.0
"""Seconds after which something that must happen is taken never to happen; no test measures speed."""

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups"),
    pytest.mark.usefixtures("young_heap"),
]


@pytest.fixture(autouse=True)
def importable_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def envelope(task: str, **parameters: Any) -> bytes:
    where = task if ":" in task else f"process_tasks:{task}"
    body = msgspec.Raw(msgspec.json.encode(parameters))
    return encode(Envelope(task=where, run_id="r_1", step="work#1", attempt=2, input=body))


def ignore(note: bytes) -> None:
    pass


async def result(pool: ProcessPool, task: str, **parameters: Any) -> Any:
    reply = decode_reply(await pool.run(envelope(task, **parameters), on_note=ignore))
    assert reply.failure is None, reply.failure
    return msgspec.json.decode(reply.output)


async def failure(pool: ProcessPool, task: str, **parameters: Any) -> Failure:
    reply = decode_reply(await pool.run(envelope(task, **parameters), on_note=ignore))
    assert reply.failure is not None
    return reply.failure


@asynccontextmanager
async def pool_of(size: int, **options: float) -> AsyncIterator[ProcessPool]:
    pool = ProcessPool(size, **options)
    try:
        yield pool
    finally:
        await pool.close(grace=0)


def go(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on a loop of its own; what was left open there is an error (`filterwarnings = error`)."""

    async def in_time() -> None:
        async with asyncio.timeout(LIVENESS):
            await main()

    asyncio.run(in_time())
    gc.collect()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def pid_in(place: Path) -> int:
    await until(place.exists)
    return int(place.read_text())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/status").exists():
            return True
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()  # where no init reaps orphans
    except (ProcessLookupError, FileNotFoundError):
        return False


# -- what goes in and comes out -------------------------------------------------------------------------------------


def test_a_dataclass_goes_in_and_comes_out() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            order = {"sku": "a", "amount": 4}
            assert await result(pool, "double", order=order) == {"sku": "a", "amount": 8}

    go(main)


def test_a_decorated_task_is_found_by_its_function() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert (await result(pool, "triple", order={"sku": "a", "amount": 1}))["amount"] == 3

    go(main)


def test_an_async_task_gets_a_loop_of_its_own() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)


def test_an_exception_comes_back_as_a_failure_with_its_cause_and_without_engine_frames() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            found = await failure(pool, "fail", sku="x")
            assert (found.type, found.message) == ("process_tasks.NotEnough", "no x")
            assert found.kinds == ("ValueError", "Exception")
            assert found.retryable
            assert found.cause is not None and found.cause.type == "KeyError"
            assert 'raise NotEnough(f"no {sku}")' in found.traceback
            assert "envelope.py" not in found.traceback

    go(main)


def test_payloads_larger_than_a_pipe_pass_both_ways() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert await result(pool, "length", text="x" * 3_000_000) == 3_000_000
            assert await result(pool, "repeat", text="xyz", times=1_000_000) == "xyz" * 1_000_000

    go(main)


def test_an_input_that_does_not_fit_is_refused_for_good() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            found = await failure(pool, "double", order={"sku": "a", "amount": "many"})
            assert found.type == "stepwell.errors.ArgumentError" and "amount" in found.message
            assert not found.retryable
            assert found.traceback == ""

    go(main)


@pytest.mark.parametrize("task", ["nowhere_to_be_found:run", "process_tasks:no_such", "process_tasks:LIVENESS.x", "?"])
def test_an_unknown_function_is_a_failure_that_names_it(task: str) -> None:
    reply = decode_reply(run_step(envelope(task)))
    assert reply.failure is not None
    assert reply.failure.type == "stepwell.errors.TargetError"
    assert task in reply.failure.message
    assert not reply.failure.retryable


def test_an_unreadable_envelope_is_a_failure() -> None:
    reply = decode_reply(run_step(b"{"))
    assert reply.failure is not None and "msgspec" in reply.failure.type


def test_a_note_that_json_cannot_hold_is_told_as_text() -> None:
    assert decode_note(encode(Note("log", {"path": Path("x")}))).fields == {"path": "PosixPath('x')"}
    assert "udc80" in decode_note(encode(Note("log", {"path": "\udc80"}))).fields["repr"]
    assert decode_reply(encode(Reply())) == Reply()


# -- child processes that die ----------------------------------------------------------------------------------------


def test_a_task_that_exits_the_process_has_run_once_and_is_told_with_its_exit_code(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            with pytest.raises(WorkerDied, match=r'run r_1: step "work#1", attempt 2: .* exit code 3') as died:
                await result(pool, "drop_dead", code=3, place=str(tmp_path / "runs"))
            assert died.value.exit_code == 3
            assert (tmp_path / "runs").read_text() == "one"
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)


def test_a_crash_names_its_signal() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            with pytest.raises(WorkerDied, match=r"SIGSEGV .* native library"):
                await result(pool, "crash")

    go(main)


def test_sys_exit_fails_the_attempt_and_not_the_process() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            before = await result(pool, "pid")
            found = await failure(pool, "leave", code=4)
            assert (found.type, found.message) == ("SystemExit", "4")
            assert await result(pool, "pid") == before

    go(main)


def test_a_process_killed_from_outside_is_told_and_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            call = asyncio.create_task(result(pool, "wait_for_ever", place=str(tmp_path / "pid")))
            os.kill(await pid_in(tmp_path / "pid"), signal.SIGKILL)
            with pytest.raises(WorkerDied, match="SIGKILL"):
                await call
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)


def test_a_process_killed_while_idle_costs_no_step() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            for _ in range(3):
                os.kill(await result(pool, "pid"), signal.SIGKILL)  # the loop has not seen it when the next call starts
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)


def test_a_task_that_closes_the_pipes_is_ended_and_told() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            with pytest.raises(WorkerDied, match="SIGKILL"):
                await result(pool, "close_everything")

    go(main)


def test_a_task_that_forks_answers_once() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert await result(pool, "fork") == 0
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)


def test_an_interpreter_that_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            monkeypatch.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(WorkerDied, match="no child process can be started"):
                await result(pool, "pid")
            monkeypatch.setattr(sys, "executable", "/bin/false")
            with pytest.raises(WorkerDied, match="exit code 1 before it was ready"):
                await result(pool, "pid")
            monkeypatch.setattr(sys, "executable", "/bin/cat")
            with pytest.raises(WorkerDied, match=r"before it was ready|not ready after"):
                await result(pool, "pid")

    go(main)


# -- attempts that are cancelled -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", ["wait_for_ever", "wait_for_ever_async", "spin", "spin_in_c", "cling", "start_another"]
)
def test_cancelling_ends_the_process_whatever_it_does_and_the_pool_serves_on(task: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            call = asyncio.create_task(result(pool, task, place=str(tmp_path / "pid")))
            pid = await pid_in(tmp_path / "pid")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not is_alive(pid))
            assert await result(pool, "pid") != pid

    go(main)
    assert (tmp_path / "pid.cleaned").exists() == (task in ("spin", "wait_for_ever_async"))


def test_a_deadline_cancels_and_nothing_is_left_running_when_it_is_reported(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):  # may pass before, while or after the process starts
                    await result(pool, "wait_for_ever", place=str(tmp_path / "pid"))
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)


def test_cancelling_a_call_that_waits_for_a_process_disturbs_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            first = asyncio.create_task(result(pool, "beat", until=str(tmp_path / "go")))
            second = asyncio.create_task(result(pool, "pid"))
            await asyncio.sleep(0)
            second.cancel()
            (tmp_path / "go").touch()
            assert await first == "r_1 work#1 2 r_1:work#1"

    go(main)


# -- notes, prints, context -------------------------------------------------------------------------------------------


def test_notes_arrive_while_the_task_runs(tmp_path: Path) -> None:
    async def main() -> None:
        notes: list[Note] = []

        def on_note(note: bytes) -> None:
            notes.append(decode_note(note))
            (tmp_path / "seen").touch()

        async with pool_of(1) as pool:
            reply = await pool.run(envelope("beat", until=str(tmp_path / "seen")), on_note=on_note)
        assert msgspec.json.decode(decode_reply(reply).output) == "r_1 work#1 2 r_1:work#1"
        assert [note.kind for note in notes] == ["heartbeat", "log"]

    go(main)


def test_a_thread_that_outlives_its_step_is_not_heard_in_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[bytes] = []
        async with pool_of(1) as pool:
            await result(pool, "keep_beating", stop=str(tmp_path / "stop"))
            for _ in range(20):
                await pool.run(envelope("sleepy", word="a"), on_note=heard.append)
            (tmp_path / "stop").touch()
        assert heard == []

    go(main)


def test_a_listener_that_raises_does_not_fail_the_step(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        (tmp_path / "go").touch()

        def on_note(note: bytes) -> None:
            raise RuntimeError("no ears")

        async with pool_of(1) as pool:
            reply = decode_reply(await pool.run(envelope("beat", until=str(tmp_path / "go")), on_note=on_note))
        assert reply.failure is None
        assert [str(context["exception"]) for context in told] == ["no ears", "no ears"]

    go(main)


def test_what_a_task_prints_comes_out_on_standard_error_and_breaks_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert await result(pool, "make_noise") == ""
            assert await result(pool, "sleepy", word="a") == "A"

    go(main)
    printed = capfd.readouterr()
    assert "no newline" in printed.err and printed.out == ""


def test_context_variables_do_not_leak_from_one_attempt_into_the_next() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            assert [await result(pool, "leave_something", word=word) for word in "ab"] == ["nothing", "nothing"]

    go(main)


# -- scripts ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import asyncio, sys
from dataclasses import dataclass
import msgspec
from stepwell.authoring.task import task
from stepwell.engine.envelope import Envelope, decode_reply, encode
from stepwell.engine.processes import ProcessPool

@dataclass
class Page:
    title: str

class Broken(Exception):
    pass

@task
def shout(page: Page) -> Page:
    if not page.title:
        raise Broken("no title")
    return Page(page.title.upper())

async def main():
    pool = ProcessPool(1)
    for title in ("loud", ""):
        body = msgspec.Raw(msgspec.json.encode({"page": {"title": title}}))
        work = encode(Envelope(shout.location, "r", "s", 1, body))
        reply = decode_reply(await pool.run(work, on_note=print))
        failure = reply.failure
        print(bytes(reply.output).decode() if failure is None else failure.type + ": " + failure.message)
    await pool.close(grace=1)

"""


def run_script(file: Path, text: str) -> subprocess.CompletedProcess[str]:
    file.write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(
        [sys.executable, "-W", "error", file],
        env=environment,
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=LIVENESS,
    )


def test_a_function_in_a_script_is_found_and_its_errors_keep_their_name(tmp_path: Path) -> None:
    ended = run_script(tmp_path / "shop", SCRIPT + 'if __name__ == "__main__": asyncio.run(main())')
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ['{"title":"LOUD"}', "__main__.Broken: no title"]
    assert [file.name for file in tmp_path.iterdir()] == ["shop"]


def test_a_script_without_a_guard_is_told_so_and_does_not_start_processes_without_end(tmp_path: Path) -> None:
    ended = run_script(tmp_path / "shop.py", SCRIPT + "asyncio.run(main())")
    assert ended.stderr == ""
    assert "TargetError" in ended.stdout and '`if __name__ == "__main__":`' in ended.stdout


def test_a_missing_script_is_a_failure_that_names_it(tmp_path: Path) -> None:
    reply = decode_reply(run_step(envelope(f"file:{tmp_path}/gone.py:run")))
    assert reply.failure is not None and f"{tmp_path}/gone.py" in reply.failure.message


# -- many calls, and the end -----------------------------------------------------------------------------------------


def test_200_calls_share_two_processes() -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            pids = await asyncio.gather(*(result(pool, "pid") for _ in range(200)))
            assert len(set(pids)) == 2

    go(main)


def test_a_process_without_work_ends_after_a_while() -> None:
    async def main() -> None:
        async with pool_of(1, idle_seconds=0.01) as pool:
            pid = await result(pool, "pid")
            await until(lambda: not is_alive(pid))
            assert await result(pool, "pid") != pid

    go(main)


def test_closing_lets_attempts_end_and_refuses_new_ones(tmp_path: Path) -> None:
    async def main() -> None:
        pool = ProcessPool(2)
        started = asyncio.Event()
        work = envelope("beat", until=str(tmp_path / "go"))
        last = asyncio.create_task(pool.run(work, on_note=lambda _: started.set()))
        await started.wait()
        closing = asyncio.create_task(pool.close(grace=LIVENESS))
        await asyncio.sleep(0)
        with pytest.raises(WorkerDied, match="closing"):
            await result(pool, "pid")
        (tmp_path / "go").touch()
        assert decode_reply(await last).failure is None
        await closing
        await pool.close(grace=0)

    go(main)


def test_closing_ends_attempts_that_take_too_long(tmp_path: Path) -> None:
    async def main() -> None:
        pool = ProcessPool(1)
        calls = [asyncio.create_task(result(pool, "cling", place=str(tmp_path / "pid"))) for _ in range(2)]
        pid = await pid_in(tmp_path / "pid")
        await pool.close(grace=0.01)
        assert not is_alive(pid)
        for call in calls:
            with pytest.raises(WorkerDied, match="the engine is closing"):
                await call

    go(main)


def test_a_pool_that_runs_nothing_starts_nothing() -> None:
    async def main() -> None:
        async with pool_of(8) as pool:
            assert pool._idle == []

    go(main)
    with pytest.raises(ValueError, match="size=0"):
        ProcessPool(0)


PARENT = """
import asyncio, os, sys
import test_processes as tests
from stepwell.engine.processes import ProcessPool

async def main():
    pool = ProcessPool(2)
    print(await tests.result(pool, "pid"), flush=True)
    await tests.result(pool, sys.argv[1], place=sys.argv[2])

asyncio.run(main())
"""


@pytest.mark.parametrize("task", ["wait_for_ever", "spin_in_c", "start_another"])
def test_children_and_what_they_started_end_with_a_parent_that_is_killed(task: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    place = tmp_path / "pid"

    async def main() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", PARENT, task, str(place)], env=environment, stdout=subprocess.PIPE
        ) as parent:
            pid = await pid_in(place)
            parent.kill()
        await until(lambda: not is_alive(pid))

    if task == "spin_in_c" and sys.platform != "linux":
        pytest.skip("only Linux ends a process that does not let its threads run")
    go(main)


def test_a_child_process_loading_a_script_may_not_run_tasks() -> None:
    from stepwell.engine import scripts

    async def main() -> None:
        async with pool_of(1) as pool:
            scripts._loading.append("shop.py")
            try:
                with pytest.raises(DefinitionError, match=r"shop\.py runs a task while"):
                    await result(pool, "pid")
            finally:
                scripts._loading.pop()

    go(main)
