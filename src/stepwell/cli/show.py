"""Show how a run stands, what it waits for, and what became of its nodes."""

from __future__ import annotations

import click

from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call, cli_command
from stepwell.cli.parts.endings import OK
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.nodetree import as_json as nodes_as_json
from stepwell.cli.parts.nodetree import tree_lines
from stepwell.cli.parts.opening import client
from stepwell.cli.parts.opening import run as run_loop
from stepwell.cli.parts.reporting import cause_of
from stepwell.cli.parts.timeline import as_json as timeline_as_json
from stepwell.cli.parts.timeline import timeline
from stepwell.cli.parts.tree import Tree, read_tree
from stepwell.cli.runs import as_json
from stepwell.engine.clock import SystemClock
from stepwell.model.durations import spoken
from stepwell.model.entries import WaitStarted
from stepwell.model.failure import Failure
from stepwell.model.state import OpenStep, State, evolve
from stepwell.model.versions import digest_of
from stepwell.observe.history import History
from stepwell.observe.picture import picture
from stepwell.observe.telling import awaited
from stepwell.observe.visits import Visits
from stepwell.stores.protocol import RunRow

OPEN_SHOWN = 10
"""How many open steps and waits are shown one by one."""

RESULT_SHOWN = 2000
"""Characters of the result that are shown; `--json` has all of it."""


@cli_command
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="Show each child run, and each item of large maps.")
def command(call: Call, run: str, everything: bool) -> int:
    """Show how RUN stands: what it waits for, its child runs and a graph's nodes as trees, when its steps ran."""
    return run_loop(_show(call, run, everything))


async def _show(call: Call, text: str, everything: bool) -> int:
    state, past, visits = State(), History(), Visits()
    async with client(call) as app:
        row = await find_run(app, text)
        is_graph = await app.store.definition(row.workflow, digest_of(row.version)) is not None
        async for stored in app.scan(row.run_id):
            evolve(state, stored.entry)
            past.add(stored.entry)
            if is_graph:
                visits.add(stored.entry)
        given = await app.payload(state.input, state.input_blob)
        output = await app.payload(state.output, state.output_blob) if state.ended == "completed" else b""
        tree = await read_tree(app, row)
        cause = await cause_of(app, row.run_id, state)
        mail = await app.store.mailbox(row.run_id)
    kept = [f"{message.kind} {message.name}".strip() for message in mail]
    drawn = picture(past, status=row.status, everything=everything)
    if call.json:
        document = _document(row, state, given, output, tree, kept)
        if is_graph:
            document["nodes"] = nodes_as_json(visits.root, everything=everything)
        call.document(document | {"timeline": timeline_as_json(drawn)})
        return OK
    now = SystemClock().now()
    children = "\n".join(tree.lines(now, everything=everything))
    call.answer(f"{click.style(row.run_id, bold=True)}  {row.workflow}  {words.status(row.status)}")
    call.answer(words.fields(_fields(row, state, given, output, children, kept, now, cause)))
    for number, line in enumerate(tree_lines(visits, now, everything=everything)):
        call.answer(f"           {line}" if number else f"\n  {words.dim('nodes')}    {line}")
    for number, line in enumerate(timeline(call, past, drawn, now, everything=everything)):
        call.answer(f"  {line}" if number else f"\n  {words.dim('timeline')}  {line}")
    return OK


def _fields(
    row: RunRow,
    state: State,
    given: bytes,
    output: bytes,
    children: str,
    kept: list[str],
    now: int,
    cause: Failure | None,
) -> list[tuple[str, str]]:
    began = state.started_at
    times = f"{words.moment(row.created_at)}, {words.ago(row.created_at, now)}"
    if began is not None and began - row.created_at > 1_000_000:
        times += f"; its body began {spoken(began - row.created_at)} later"
    ended = ""
    if row.finished_at is not None:
        ended = f"{words.moment(row.finished_at)}, after {spoken(row.finished_at - row.created_at)}"
    labels = " ".join(f"{key}={value}" for key, value in sorted(row.labels.items()))
    return [
        ("created", times),
        ("ended", ended),
        ("paused", _pause(state)),
        ("version", state.version or row.version),
        ("labels", labels),
        ("parent", row.parent or ""),
        ("forked from", state.origin),
        ("queue", state.queue),
        ("deadline", _deadline(state, now)),
        ("driven by", row.owner or ""),
        ("input", words.short(given, 200)),
        ("steps", _steps(state)),
        ("open", _open_steps(state, now)),
        ("waits", _waits(state, now)),
        ("mailbox", ", ".join(kept)),
        ("usage", ", ".join(f"{count:,} {name}" for name, count in sorted(state.usage.items()))),
        ("state", "\n".join(f"{key} = {words.short(value)}" for key, value in sorted(state.variables.items()))),
        ("error", _error(state, cause)),
        ("children", children),
        ("result", _result(output)),
    ]


def _deadline(state: State, now: int) -> str:
    if state.deadline is None:
        return ""
    return words.moment(state.deadline) + ("" if state.ended is not None else f", {words.ago(state.deadline, now)}")


def _pause(state: State) -> str:
    pause = state.pause
    if pause is None or state.ended is not None:
        return ""
    by = f" by {pause.by}" if pause.by else ""
    cause = "" if pause.cause == "request" else f" ({pause.cause.replace('_', ' ')})"
    return f"{words.moment(pause.at)}{by}{cause}" + (f"\n{pause.reason}" if pause.reason else "")


def _steps(state: State) -> str:
    to_retry = sum(step.retry_at is not None for step in state.steps.values())
    parts = [f"{state.completed:,} done"]
    for number, what in (
        (state.attempts_in_flight, "in flight"),
        (to_retry, "to be retried"),
        (state.failed, "failed"),
        (state.retries, "retries" if state.retries != 1 else "retry"),
    ):
        if number:
            parts.append(f"{number:,} {what}")
    return ", ".join(parts)


def _open_steps(state: State, now: int) -> str:
    lines = [_open_step(step, now) for step in list(state.steps.values())[:OPEN_SHOWN]]
    return _with_rest(lines, len(state.steps))


def _open_step(step: OpenStep, now: int) -> str:
    if step.step == "child":
        return f"{step.path}  child run {step.child}"
    if step.retry_at is not None:
        error = f": {step.error.summary()}" if step.error is not None else ""
        return f"{step.path}  attempt {step.attempt} failed, next {words.ago(step.retry_at, now)}{error}"
    return f"{step.path}  attempt {step.attempt}, began {words.ago(step.started_at, now)}"


def _waits(state: State, now: int) -> str:
    return _with_rest([_wait(wait, now) for wait in list(state.waits.values())[:OPEN_SHOWN]], len(state.waits))


def _wait(wait: WaitStarted, now: int) -> str:
    due = "" if wait.due is None else f", due {words.moment(wait.due)} ({words.ago(wait.due, now)})"
    return f"{awaited(wait)}{due}, since {words.moment(wait.at)}"


def _with_rest(lines: list[str], total: int) -> str:
    return "\n".join([*lines, *([f"… and {total - len(lines):,} more"] if total > len(lines) else [])])


def _error(state: State, cause: Failure | None) -> str:
    if state.error is None:
        return ""
    where = f"in step {', '.join(map(str, state.failed_steps))}\n" if state.failed_steps else ""
    return f"{click.style(state.error.summary(), fg='red')}\n{where}{words.traceback_end(cause or state.error, 8)}"


def _result(output: bytes) -> str:
    text = words.pretty(output) if output else ""
    return text if len(text) <= RESULT_SHOWN else text[:RESULT_SHOWN] + "\n… (all of it with --json)"


def _document(row: RunRow, state: State, given: bytes, output: bytes, tree: Tree, kept: list[str]) -> dict[str, object]:
    below = list(tree.below())
    document = as_json(row) | {
        "started_at": state.started_at,
        "durability": state.durability,
        "origin": state.origin or None,
        "queue": state.queue or None,
        "deadline": state.deadline,
        "usage": state.usage,
        "input": words.payload(given),
        "result": words.payload(output),
        "error": words.as_json(state.error),
        "failed_steps": [str(path) for path in state.failed_steps],
        "steps": steps_as_json(state),
        "waits": waits_as_json(state),
        "state": {key: words.payload(value) for key, value in state.variables.items()},
        "mailbox": kept,
        "children": [as_json(one) for one in below if one.parent == row.run_id],
        "descendants": [as_json(one) for one in below],
        "tree": [one.run_id for one in tree.rows],
    }
    if state.pause is not None and state.ended is None:
        pause = state.pause
        document["pause"] = {"at": pause.at, "cause": pause.cause, "by": pause.by, "reason": pause.reason}
    return document


def steps_as_json(state: State) -> dict[str, object]:
    """Steps in numbers, and the open ones one by one."""
    return {
        "done": state.completed,
        "in_flight": state.attempts_in_flight,
        "failed": state.failed,
        "retries": state.retries,
        "open": [
            {
                "step": str(step.path),
                "attempt": step.attempt,
                "in_flight": step.in_flight,
                "started_at": step.started_at,
                "retry_at": step.retry_at,
                "child": step.child or None,
                "error": words.as_json(step.error),
            }
            for step in state.steps.values()
        ],
    }


def waits_as_json(state: State) -> list[dict[str, object]]:
    """The open waits."""
    return [
        {"step": str(wait.path), "kind": wait.wait, "name": wait.name or None, "since": wait.at, "due": wait.due}
        for wait in state.waits.values()
    ]
