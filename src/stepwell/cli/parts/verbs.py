"""Verbs for one run: asked for in its mailbox, then seen to here when no process drives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import click
import msgspec

from stepwell.app import Stepwell
from stepwell.authoring.registry import Registry
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.driving import Driver, has_unheard_pause
from stepwell.cli.parts.endings import INTERRUPTED, OK, TERMINATED, TargetMissing
from stepwell.cli.parts.finding import find_run
from stepwell.cli.parts.graphs import Code, code_for, is_graph_label, plan_of
from stepwell.cli.parts.opening import client, driver_in, driver_of, engine, run
from stepwell.cli.parts.reporting import report
from stepwell.cli.parts.screens import screen_for
from stepwell.cli.parts.targets import LABEL, Target, find_target
from stepwell.errors import StoreBusy, TargetError
from stepwell.handle import Run
from stepwell.model.entries import OnChange
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.model.state import State
from stepwell.stores.protocol import RunRow

if TYPE_CHECKING:
    from stepwell.graph.plan import Plan

Verb: TypeAlias = Literal["pause", "resume", "cancel", "retry", "state", "upgrade", "patch", "rerun", "fork"]

HEARD_SECONDS: Final = 2.0
"""How long is waited for the process that drives to act on what was asked for, so that it can be said."""

_DONE: Final[dict[Verb, str]] = {
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
    "retry": "retried",
    "state": "edited",
    "upgrade": "upgraded",
    "patch": "patched",
    "rerun": "run",
    "fork": "run",
}


class Asked(msgspec.Struct, frozen=True):
    """What was asked for: `row` is from before, `target` where the run's code is found again ("" if unknown).

    `driver` names the process that drives the store, if one does; `undo_pause` says that the run, which was not
    paused, is about to hear of a pause that this resume is meant to undo. `plan` is what a run of a graph goes
    through; None for functions.
    """

    verb: Verb
    row: RunRow
    target: str
    driver: str | None
    undo_pause: bool = False
    steps_done: int = 0
    plan: Plan | None = None


def ask(call: Call, verb: Verb, text: str, post: Callable[[Stepwell, RunRow], Awaitable[None]]) -> Asked:
    """Find the run, post what is asked for, and see who will act on it."""
    return run(_ask(call, verb, text, post))


async def _ask(call: Call, verb: Verb, text: str, post: Callable[[Stepwell, RunRow], Awaitable[None]]) -> Asked:
    async with client(call) as app:
        row = await find_run(app, text)
        undo = (
            verb == "resume"
            and row.status not in SET_ASIDE | TERMINAL
            and await has_unheard_pause(app.store, row.run_id)
        )
        driver = await driver_of(call)
        is_forsaken = verb == "resume" and row.status not in SET_ASIDE | TERMINAL and driver is None
        if not is_forsaken:  # one that was under way when its process ended needs nothing but somebody to drive it
            await post(app, row)
        target = await target_of(app, row)
        steps_done = (await app.state(row.run_id)).completed
        plan = await plan_of(app, row)
    return Asked(verb, row, target, driver, undo, steps_done, plan)


async def target_of(app: Stepwell, row: RunRow) -> str:
    """Where the run's code is found again: its own label, or that of the run at the top of its tree; "" if unknown."""
    root = row if row.root == row.run_id else await app.store.get(row.root)
    return row.labels.get(LABEL) or (root.labels.get(LABEL, "") if root is not None else "")


async def branch(
    call: Call, verb: Verb, text: str, create: Callable[[Stepwell, RunRow], Awaitable[Run[Any]]]
) -> Asked:  # Any: whatever it returns
    """Find the run, make another one of it, and see who will drive that; the answer is about the new run."""
    async with client(call) as app:
        made = await create(app, await find_run(app, text))
        row = await app.get(made.id)
        steps_done = (await app.state(row.run_id)).completed
        target, plan = await target_of(app, row), await plan_of(app, row)
        return Asked(verb, row, target, await driver_of(call), steps_done=steps_done, plan=plan)


def drive_branch(call: Call, asked: Asked, origin: str, *, no_drive: bool) -> int:
    """Say which run was made, and drive it here unless another process does."""
    row = asked.row
    if asked.driver is None and not no_drive:
        call.say(f"{words.dim('new run')} {row.run_id} {words.dim('of')} {origin}")
        return drive_here(call, asked, beyond=0)
    if call.json:
        call.document({"run": row.run_id, "origin": origin, "status": row.status, "driver": asked.driver})
        return OK
    call.answer(row.run_id)
    follow = call.command("resume", row.run_id)
    call.say(f"{asked.driver} drives it" if asked.driver else f"nobody drives this store now; drive it with:  {follow}")
    return OK


def leave_to_driver(call: Call, asked: Asked, reached: Callable[[RunRow], bool]) -> int:
    """The process that drives acts on it: wait a moment for that, and say what is known."""
    row = run(_heard(call, asked, reached))
    if call.json:
        _accepted(call, asked, row.status)
    elif reached(row):
        call.answer(f"run {row.run_id} is {words.status(row.status)}")
    else:
        call.answer(f"accepted: {asked.driver} acts on it; run {row.run_id} is still {words.status(row.status)}")
    return OK


async def _heard(call: Call, asked: Asked, reached: Callable[[RunRow], bool]) -> RunRow:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HEARD_SECONDS
    async with client(call) as app:
        while True:
            mail = await app.store.mailbox(asked.row.run_id)
            row = await app.get(asked.row.run_id)
            is_taken = not any(message.kind == asked.verb for message in mail)
            if (is_taken and reached(row)) or loop.time() > deadline:
                return row
            await asyncio.sleep(0.05)


def leave_for_later(call: Call, asked: Asked, why: str) -> int:
    """Nobody acts on it now: say so plainly."""
    if call.json:
        _accepted(call, asked, asked.row.status, note=why)
    else:
        call.answer(f"accepted: run {asked.row.run_id} will be {_DONE[asked.verb]} when it is next driven")
        call.say(why)
    return OK


def drive_here(
    call: Call,
    asked: Asked,
    *,
    beyond: int,
    on_change: OnChange | None = None,
    settle: Callable[[State], bool] | None = None,
) -> int:
    """Drive the run in the foreground; with `settle` only until that holds.

    Says what is the matter when the run's code cannot be found.
    """
    try:
        code = _code(call, asked)
    except TargetError as error:
        return leave_for_later(call, asked, f"nobody drives this store, and the run's code is not found: {error}")
    return run(_drive(call, asked, code, beyond, on_change, settle))


def _code(call: Call, asked: Asked) -> Code:
    if asked.plan is not None and (call.tasks or not asked.target or is_graph_label(asked.target)):
        return code_for(asked.row, asked.target, call.tasks, asked.plan.tasks)
    target = _target(asked)
    return Code((), target.tasks or Registry(), target.workflows)


def _target(asked: Asked) -> Target:
    if not asked.target:
        raise TargetMissing(
            "it was not started with 'stepwell run'; open the store in a program that has workflow "
            f"{asked.row.workflow!r}"
        )
    target = find_target(asked.target)
    if asked.row.workflow not in {workflow.name for workflow in target.workflows}:
        raise TargetMissing(f"{asked.target} has no workflow {asked.row.workflow!r} any more")
    return target


async def _drive(
    call: Call,
    asked: Asked,
    code: Code,
    beyond: int,
    on_change: OnChange | None,
    settle: Callable[[State], bool] | None,
) -> int:
    run_id = asked.row.run_id
    screen = screen_for(call)
    app = engine(call, code.workflows, code.tasks, grace="10s" if settle is None else "1s")
    try:
        await app.open()
    except StoreBusy as busy:  # somebody was quicker
        return leave_for_later(call, asked, f"{driver_in(busy)} has begun to drive this store")
    try:
        event: dict[str, Any] = {"event": asked.verb, "run": run_id, "workflow": asked.row.workflow}
        event |= {"existed": True, "steps_done": asked.steps_done}
        text = f"run {click.style(run_id, bold=True)} of {asked.row.workflow}"
        text += f" goes on: {words.count(asked.steps_done, 'step')} done before" if settle is None else ""
        driver = Driver(call, app, screen, on_change=on_change, undo_pause=asked.undo_pause)
        again = call.command("resume", run_id)
        with driver.listening():
            driven = await driver.drive(
                run_id, again=again, beyond=beyond, event=event, text=text, settle=settle or (lambda _: False)
            )
    finally:
        await app.close()
    if settle is not None and driven.code not in (INTERRUPTED, TERMINATED):
        if not call.json:
            call.answer(f"run {run_id} is {words.status(driven.state.status)}")
        return OK
    return report(call, run_id, driven)


def _accepted(call: Call, asked: Asked, status: str, **more: object) -> None:
    run_id = asked.row.run_id
    call.document(
        {"run": run_id, "verb": asked.verb, "accepted": True, "status": status, "driver": asked.driver, **more}
    )
