"""One run is driven in the foreground until it ends, is set aside, or somebody presses Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.cli.parts.call import Call
from stepwell.cli.parts.endings import INTERRUPTED, TERMINATED
from stepwell.cli.parts.nodes import Nodes
from stepwell.cli.parts.opening import GRACE, data_folder, me
from stepwell.cli.parts.reporting import Driven, cause_of, code_of, end_event, output_of
from stepwell.cli.parts.screens import Screen
from stepwell.cli.parts.stopping import Stop
from stepwell.cli.parts.tracker import Tracker
from stepwell.errors import RequestRefused
from stepwell.logging import where_am_i
from stepwell.model.durations import micros
from stepwell.model.entries import OnChange
from stepwell.model.ids import SECOND
from stepwell.model.state import State
from stepwell.model.versions import digest_of
from stepwell.observe.logs import JsonLines, RunHandler
from stepwell.stores.protocol import Store

_POLL: Final = 0.1
"""How often the screen is shown how far the run is (seconds)."""

_GRACE: Final = micros(GRACE) / SECOND


class Driver:
    """Drives one run with one open engine, shows it on a screen, and logs what happens to files.

    Args:
        call: where answers go.
        app: open, and driving.
        screen: where the run is shown.
        on_change: what a pause for changed code is resumed with; None leaves it to the person.
        undo_pause: whether the first pause that is heard of was asked for before, and is to be undone.
    """

    def __init__(
        self,
        call: Call,
        app: Stepwell,
        screen: Screen,
        *,
        on_change: OnChange | None = None,
        undo_pause: bool = False,
    ) -> None:
        self._call = call
        self._app = app
        self._screen = screen
        self._again = ""
        self._on_change = on_change
        self._undo_pause = undo_pause
        self._stop = Stop(self._stop_at_once)
        self._runners = app.engine.runners
        self._tracker = Tracker(lambda other: self._root(other) == self._tracker.run_id)
        self._logs: JsonLines | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the engine, write logs. Begin before the run does: a short one is over in a moment."""
        with self._logging(), self._app.listening(self._tracker), Stop(self._stop_at_once) as self._stop:
            yield

    async def drive(
        self,
        run_id: str,
        *,
        again: str,
        beyond: int = 0,
        event: dict[str, Any] | None = None,
        text: str = "",
        settle: Callable[[State], bool] = lambda state: False,
    ) -> Driven:  # Any: JSON
        """Drive until the run has ended or is set aside by what comes after entry `beyond`, or `settle` is true.

        A run that somebody pauses stays in the hands of this process: it goes on when it is resumed. `again` is the
        command that goes on with the run, for people.
        """
        self._again = again
        tracker, stop = self._tracker, self._stop
        tracker.begin(*await self._standing(run_id))
        self._screen.begin(tracker, event or {"event": "driving", "run": run_id}, text)
        try:
            await self._watch(tracker, stop, beyond, settle)
            if stop.why and tracker.state.ended is None:
                driven = await self._leave(tracker, stop)
            else:
                driven = await self._settled(tracker)
        finally:
            self._screen.end(tracker)
        await self._app.close(grace=0 if stop.why == "interrupt" else None)
        return driven

    async def _standing(self, run_id: str) -> tuple[State, Nodes | None]:
        """The run's state now; of a graph its nodes too, as they are at the same entry."""
        state = await self._app.state(run_id)
        engine = self._app.engine
        if not state.workflow or state.workflow in engine.workflows:
            return state, None
        graph = await engine.graphs.fetch(state.workflow, digest_of(state.version))
        if graph is None:
            return state, None
        nodes = Nodes(graph.plan.body.by_id)
        async for one in self._app.scan(run_id):
            if one.seq <= state.seq:
                nodes.add(one.entry)
        return state, nodes

    # -- waiting ------------------------------------------------------------------------------------------------

    async def _watch(self, tracker: Tracker, stop: Stop, beyond: int, settle: Callable[[State], bool]) -> None:
        told_pause = 0
        while not stop.asked.is_set() and not settle(tracker.state):
            if tracker.has_settled(beyond):
                pause = tracker.state.pause
                if tracker.state.ended is not None or pause is None:
                    return
                if pause.cause == "code_change" and self._on_change is not None:
                    beyond, policy, self._on_change = tracker.state.seq, self._on_change, None
                    await self._app.resume(tracker.run_id, by=me(), on_change=policy)
                elif pause.cause != "request":
                    return
                elif self._undo_pause:
                    beyond, self._undo_pause = tracker.state.seq, False
                    await self._app.resume(tracker.run_id, by=me())
                elif told_pause != pause.at:
                    told_pause = pause.at
                    self._screen.note(_paused_text(tracker, self._call))
            if self._app.engine.lost:
                raise RequestRefused("another process has taken this store over; it goes on with the run")
            self._screen.refresh(tracker)
            tracker.settled.clear()
            await _either(tracker.settled, stop.asked, _POLL)

    async def _leave(self, tracker: Tracker, stop: Stop) -> Driven:
        """Stop neatly: after Ctrl-C the run is paused; either way attempts in flight may end."""
        if stop.why == "interrupt" and tracker.state.durability == "memory":
            self._screen.note("stopped; the run was kept in memory only and is gone")
            return Driven(INTERRUPTED, tracker.state)
        in_flight = tracker.state.attempts_in_flight
        if stop.why == "interrupt":
            wait = f", {words.count(in_flight, 'attempt')} in flight may end ({GRACE} at most)" if in_flight else ""
            self._screen.note(f"pausing{wait}; Ctrl-C again stops at once")
            with contextlib.suppress(RequestRefused):  # it ended just now
                await self._app.pause(tracker.run_id, by=me(), reason="Ctrl-C")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GRACE
        while loop.time() < deadline and not self._is_quiet(tracker, stop):
            self._screen.refresh(tracker)
            await asyncio.sleep(_POLL / 5)
        if tracker.state.ended is not None:
            return await self._settled(tracker)
        self._screen.end(tracker)
        verb = "paused" if tracker.state.pause is not None else "stopped"
        self._call.say(f"{verb}: nothing finished is lost; go on with\n  {self._again}")
        if self._call.json:
            self._call.document(end_event(tracker, verb) | {"resume": self._again})
        return Driven(INTERRUPTED if stop.why == "interrupt" else TERMINATED, tracker.state)

    def _is_quiet(self, tracker: Tracker, stop: Stop) -> bool:
        state = tracker.state
        if state.ended is not None:
            return True
        # One that is to go on later need not come to rest: closing the engine gives it its grace.
        return stop.why == "terminate" or (state.attempts_in_flight == 0 and state.pause is not None)

    def _stop_at_once(self) -> None:
        """The second Ctrl-C."""
        self._screen.end(None)
        if self._logs is not None:
            self._logs.flush()
        self._call.say(f"stopped at once: nothing finished is lost; go on with\n  {self._again}")

    # -- the end ------------------------------------------------------------------------------------------------

    async def _settled(self, tracker: Tracker) -> Driven:
        state = tracker.state
        self._screen.end(tracker)
        output = b""
        if state.ended == "completed":
            output = await output_of(self._app, tracker.run_id, state)
        if self._call.json:
            result = {"result": words.payload(output)} if state.ended == "completed" else {}
            self._call.document(end_event(tracker, state.status) | result)
        cause = await cause_of(self._app, tracker.run_id, state)
        return Driven(code_of(state), state, output, cause)

    def _root(self, run_id: str) -> str:
        """The root of the tree that a run in this engine belongs to."""
        runner = self._runners.get(run_id)
        return runner.identity.root if runner is not None else ""

    # -- logs ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _logging(self) -> Iterator[None]:
        """Write runs' logs to files, show warnings from elsewhere, and turn what users print to standard error."""
        runners = self._runners
        lines = self._logs = JsonLines(
            data_folder(self._call.store) / "logs",
            workflow_of=lambda run_id: runners[run_id].workflow.name if run_id in runners else "",
        )
        handlers: list[logging.Handler] = [RunHandler(lines, where_am_i), _Aloud(self._screen)]
        root = logging.getLogger()
        level = root.level
        root.setLevel(min(level, logging.INFO) or logging.INFO)
        for handler in handlers:
            root.addHandler(handler)
        stdout, sys.stdout = sys.stdout, sys.stderr
        try:
            with self._app.listening(lines):
                yield
        finally:
            sys.stdout = stdout
            for handler in handlers:
                root.removeHandler(handler)
            root.setLevel(level)
            lines.close()


class _Aloud(logging.Handler):
    """Shows warnings that were made outside of any run: the engine's own, for one."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        if where_am_i() is None:
            error = record.exc_info[1] if record.exc_info else None
            what = f": {type(error).__name__}: {error}" if error is not None else ""
            self._screen.note(f"{record.levelname.lower()}: {record.getMessage()}{what}")


async def has_unheard_pause(store: Store, run_id: str) -> bool:
    """Whether a pause waits in the run's mailbox: it was asked for while nobody drove, or just before a crash."""
    return any(message.kind == "pause" for message in await store.mailbox(run_id))


def _paused_text(tracker: Tracker, call: Call) -> str:
    pause = tracker.state.pause
    assert pause is not None
    by = f" by {pause.by}" if pause.by else ""
    reason = f" ({pause.reason})" if pause.reason else ""
    return f"paused{by}{reason}; it goes on after:  {call.command('resume', tracker.run_id)}"


async def _either(one: asyncio.Event, other: asyncio.Event, seconds: float) -> None:
    """Wait until one of them is set, or so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
