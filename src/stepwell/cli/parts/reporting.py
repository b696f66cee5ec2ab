"""How a run ended, or how it stands when it is left: for people, for programs, and as an exit code."""

from __future__ import annotations

from typing import Any

import msgspec

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.endings import FAILED, INTERRUPTED, OK, REFUSED, TERMINATED, complain
from stepwell.cli.parts.screens import counts
from stepwell.cli.parts.tracker import Tracker
from stepwell.model.durations import spoken
from stepwell.model.entries import StepFailed
from stepwell.model.failure import Failure
from stepwell.model.ids import SECOND
from stepwell.model.state import State


class Driven(msgspec.Struct, frozen=True):
    """How driving a run ended.

    `code` is the exit code, `output` the result's JSON when the run has completed, `cause` the failure of the step
    that ended a failed one.
    """

    code: int
    state: State
    output: bytes = b""
    cause: Failure | None = None


def report(call: Call, run_id: str, driven: Driven) -> int:
    """Print the result, or what went wrong and what can be done; returns the exit code."""
    state = driven.state
    if call.json or driven.code in (INTERRUPTED, TERMINATED):
        return driven.code
    took = f" in {spoken(state.updated_at - state.created_at)}" if state.ended else ""
    match state.status:
        case "completed":
            call.say(f"{words.status('completed')}{took}, {words.count(state.completed, 'step')}")
            call.answer(words.pretty(driven.output))
        case "failed" if state.error is not None:
            steps = f" in step {', '.join(map(str, state.failed_steps))}" if state.failed_steps else ""
            complain(call, "run_failed", f"run {run_id} failed{took}{steps}: {state.error.summary()}")
            trace = words.traceback_end(driven.cause or state.error)
            if "\n" in trace:
                call.say("  " + trace.replace("\n", "\n  "))
            if state.undone:
                call.say(f"its work was undone; start anew with the same input:  {call.command('rerun', run_id)}")
            else:
                call.say(f"what is finished is kept; try what failed again:  {call.command('retry', run_id)}")
        case "cancelled":
            by = f" by {state.cancel.by}" if state.cancel is not None and state.cancel.by else ""
            call.say(f"run {run_id} was {words.status('cancelled')}{by}")
        case "paused" | "stuck":
            pause = state.pause
            reason = f": {pause.reason}" if pause is not None and pause.reason else ""
            call.say(f"run {run_id} is {words.status(state.status)}{reason}")
            policy = ["--on-change", "rerun"] if pause is not None and pause.cause == "code_change" else []
            call.say(f"it is kept; go on with:  {call.command('resume', run_id, *policy)}")
        case _:
            call.say(f"run {run_id} is {words.status(state.status)}")
    return driven.code


def code_of(state: State) -> int:
    """The exit code for a run that stands so."""
    match state.status:
        case "completed":
            return OK
        case "failed" | "cancelled" | "paused" | "stuck":
            return FAILED
        case _:
            return REFUSED


def end_event(tracker: Tracker, status: str) -> dict[str, Any]:  # Any: JSON
    """The last line of a `--json` stream: how the run ended or was left."""
    state = tracker.state
    event: dict[str, Any] = {
        "event": "ended",
        "run": tracker.run_id,
        "workflow": state.workflow,
        "status": status,
        "steps": counts(tracker),
        "seconds": (state.updated_at - state.created_at) / SECOND,
    }
    if state.error is not None and state.ended == "failed":
        event["error"] = words.as_json(state.error)
        event["failed_steps"] = [str(path) for path in state.failed_steps]
    if state.pause is not None and state.ended is None:
        event["cause"], event["reason"] = state.pause.cause, state.pause.reason
    return event


async def output_of(app: Stepwell, run_id: str, state: State) -> bytes:
    """The JSON of a completed run's result."""
    return await app.payload(state.output, state.output_blob) or b"null"


async def cause_of(app: Stepwell, run_id: str, state: State) -> Failure | None:
    """What the step failed with that made the run fail; None when it was no step."""
    if state.ended != "failed" or not state.failed_steps:
        return None
    first = state.failed_steps[0]
    failures = [
        one.entry.error
        for one in await app.entries(run_id)
        if isinstance(one.entry, StepFailed) and one.entry.path == first
    ]
    return failures[-1] if failures else None
