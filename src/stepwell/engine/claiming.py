"""Which runs an engine holds: new ones, those that the store has waiting, and those that give way to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.authoring.workflow import Workflow
from stepwell.engine.lacking import lack_of_types
from stepwell.engine.questions import QuestionDesk
from stepwell.engine.reading import payloads_of, read_heads, read_run, read_whole
from stepwell.engine.runner import Runner
from stepwell.engine.trials import Trials
from stepwell.errors import DefinitionError, Fenced, StoreError
from stepwell.model.commands import Pause
from stepwell.model.decide import decide
from stepwell.model.entries import PauseCause
from stepwell.model.ids import SECOND
from stepwell.model.state import State, evolve, replay
from stepwell.model.versions import digest_of
from stepwell.programs.matching import Records
from stepwell.stores.protocol import Append, Claimed, Message, NewRun, RunRow, Store, Stored

if TYPE_CHECKING:
    from stepwell.engine.worker import Engine

_log = logging.getLogger("stepwell.engine")

LONGEST_NAP = 5 * SECOND
"""The store is asked for runs that want to be driven at least this often (microseconds)."""

BREATH = SECOND // 10
"""How long a full engine waits before it looks again for runs that could give way (microseconds)."""

READ_AT_ONCE = 50
"""Journals read side by side, so that the way to a reading thread and back is paid once for many."""

CLAIM_PAGE = 200
"""Runs claimed, or dropped to make room, at a time."""


class Claims:
    """Brings runs into one engine's memory, as many as its limits allow."""

    def __init__(self, engine: Engine) -> None:
        self.trials = Trials(engine.clock, self._adopt_in_time, lambda run_id: run_id in engine.runners)
        self._engine = engine
        self._adopting: set[str] = set()  # claimed: this worker's, whatever else is said of them
        self._creating: set[str] = set()  # on their way into the store, to be this worker's if they are new there
        self._asked_for = 0
        self._early: dict[str, list[Message]] = {}
        self._attention = asyncio.Event()

    def look(self) -> None:
        """Something may want to be driven: look soon."""
        self._attention.set()

    def is_adopting(self, run_id: str) -> bool:
        """Whether a run is on its way into memory."""
        return run_id in self._adopting or run_id in self._creating

    def keep_early(self, message: Message) -> None:
        """Keep a message whose run is being picked up, perhaps by a claim that is under way and did not see it."""
        if self._asked_for or self.is_adopting(message.run_id):
            self._early.setdefault(message.run_id, []).append(message)
        self._attention.set()

    # -- new runs -----------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether one more run may be held in memory."""
        return self._room() > 0 and not self._engine.closing

    def _room(self) -> int:
        coming = len(self._adopting) + len(self._creating) + self._asked_for
        return self._engine.limits.runs - len(self._engine.runners) - coming

    def start(self, new: NewRun, workflow: Workflow[..., Any], volatile: bool) -> asyncio.Future[RunRow]:
        """Create a run, and drive it at once when nothing keeps it; gives the row that the store then has.

        That is another run's row when another run has its unique key.
        """
        store = self._engine.volatile if volatile else self._engine.store
        is_due = not new.held and new.wake_at is not None and new.wake_at <= self._engine.clock.now()
        if is_due and self.has_room:
            new = msgspec.structs.replace(new, owner=self._engine.worker)
            self._creating.add(new.run_id)
        created = store.create(new)
        if created.done():
            self._created(new, store, workflow, created)
        else:
            created.add_done_callback(lambda done: self._created(new, store, workflow, done))
        return created

    def _created(self, new: NewRun, store: Store, workflow: Workflow[..., Any], done: asyncio.Future[RunRow]) -> None:
        self._creating.discard(new.run_id)
        is_claimed = new.run_id in self._adopting or new.run_id in self._engine.runners
        if done.cancelled() or done.exception() is not None:
            return
        row = done.result()
        # A run that was there already may belong to this worker too, by a claim that is still being answered.
        is_new = row.run_id == new.run_id and (row.next_seq, row.claims) == (2, 0) and not is_claimed
        is_ours = is_new and new.owner is not None and row.owner == self._engine.worker
        if is_ours and not self._engine.closing:
            state = replay(new.entries)
            runner = Runner(
                self._engine,
                store,
                workflow,
                state,
                row.epoch,
                records=None,
                blobs=dict(new.blobs),
                messages=(),
            )
            for message in self._early.pop(new.run_id, ()):
                runner.inbox.receive(message)
            self._engine.runners[new.run_id] = runner
            runner.wake()
        else:
            self._engine.queueing.joined(store, (new,))
            self._attention.set()

    # -- runs of the store --------------------------------------------------------------------------------------

    async def keep_claiming(self) -> None:
        while True:
            self._attention.clear()
            try:
                full = await self._claim(self._engine.store)
                full = await self._claim(self._engine.volatile) or full
                wake = None if full else await self._next_wake()
            except Fenced:
                self._engine.lose()
                return
            except StoreError as error:
                self._engine.degraded(error)
                await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
                continue
            if full:
                continue
            now = self._engine.clock.now()
            until = wake
            if self._engine.store.is_shared:  # others write too, and do not tell this engine
                until = now + LONGEST_NAP if wake is None else min(wake, now + LONGEST_NAP)
            if until is not None and self._room() <= 0:  # what is due cannot be taken: look again when a run leaves,
                until = max(until, now + BREATH)  # or can be made to
            await self._wait_for_attention(until)

    async def _claim(self, store: Store) -> bool:
        """Claim a page; True when there may be more."""
        room = self._room()
        if room <= 0:
            self._make_room()
            return False
        if store is self._engine.store:
            await self._engine.graphs.look()
        names = self._engine.driven()
        if not names:
            return False
        limit = min(room, CLAIM_PAGE)
        self._asked_for += limit
        try:
            claimed = await store.claim(self._engine.worker, workflows=names, now=self._engine.clock.now(), limit=limit)
        finally:
            self._asked_for -= limit
        self._adopting.update(one.row.run_id for one in claimed)
        claimed = await self._with_graphs(store, claimed)
        harmless = [one for one in claimed if not self.trials.takes(store, one)]
        for start in range(0, len(harmless), READ_AT_ONCE):
            some = harmless[start : start + READ_AT_ONCE]
            heads = await read_heads(store, [one.row.run_id for one in some])
            others = [one for one in some if not self._adopt_at_once(store, one, heads.get(one.row.run_id))]
            if others:
                await asyncio.gather(*(self._adopt_in_time(store, one) for one in others))
        self._early = {run_id: early for run_id, early in self._early.items() if self.is_adopting(run_id)}
        return len(claimed) >= limit

    async def _with_graphs(self, store: Store, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Load the graphs that these runs are of; one whose definition is no good any more is set aside."""
        ready = []
        for one in claimed:
            try:
                is_set_aside = await self._set_aside_if_lacking(store, one.row)
            except StoreError:  # the run is this worker's all the same: `_adopt_in_time` looks again
                is_set_aside = False
            if not is_set_aside:
                ready.append(one)
        return ready

    async def _set_aside_if_lacking(self, store: Store, row: RunRow) -> bool:
        """Set a run aside whose graph is not there or no good; whether that was done."""
        is_function = row.workflow in self._engine.workflows
        reason = "" if is_function else await self._lack_of_graph(row.workflow, row.version)
        if not reason:
            return False
        state, _ = await read_run(store, row.run_id)
        await self._set_aside(store, row, state, reason, "code_change")
        self._adopting.discard(row.run_id)
        return True

    async def _lack_of_graph(self, name: str, version: str) -> str:
        """Why a run of this version of a graph cannot be driven; "" when it can, now that the graph is loaded."""
        try:
            if await self._engine.graphs.fetch(name, digest_of(version)) is not None:
                return ""
            return f"version {version} of graph {name!r} is not in the store: deploy it and resume"
        except DefinitionError as error:
            return f"{lack_of_types(name)}{error}"

    def _adopt_at_once(self, store: Store, claimed: Claimed, head: Sequence[Stored] | None) -> bool:
        """Adopt a run of which all has been read, as of nearly every one; false when there is more to read."""
        found = None if self._engine.closing else read_whole(head)
        if found is None or payloads_of(*found) or not self._has_version(found[0]):
            return False
        self._adopting.discard(claimed.row.run_id)
        self._drive(store, claimed, *found, {})
        return True

    def _has_version(self, state: State) -> bool:
        """Whether the graph that an upgrade has led to is there, if it is one."""
        is_function = state.workflow in self._engine.workflows
        return is_function or self._engine.graphs.serving(state.workflow, state.version) is not None

    async def _adopt_in_time(self, store: Store, claimed: Claimed) -> None:
        """Adopt a run that belongs to this worker now, however long the store has trouble."""
        try:
            while not self._engine.closing:
                try:
                    await self._adopt(store, claimed)
                    return
                except StoreError as error:
                    if not error.retryable:
                        _log.error("run %s is left as it is: %s", claimed.row.run_id, error)
                        return
                    self._engine.degraded(error)
                    await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
        finally:
            self._adopting.discard(claimed.row.run_id)

    def _make_room(self) -> None:
        dropped = 0
        for runner in tuple(self._engine.runners.values()):
            if dropped >= CLAIM_PAGE:
                return
            if runner.state.status in ("waiting", "paused", "stuck") and runner.drop_if_idle():
                dropped += 1

    async def _adopt(self, store: Store, claimed: Claimed) -> None:
        row = claimed.row
        state, records = await read_run(store, row.run_id)
        reason = "" if self._has_version(state) else await self._lack_of_graph(state.workflow, state.version)
        if reason:
            await self._set_aside(store, row, state, reason, "code_change")
            return
        blobs = {digest: await store.blob(digest) for digest in sorted(payloads_of(state, records))}
        if self._engine.closing:
            return
        if state.ended is None and state.pause is None and self.trials.is_guilty(claimed):
            reason = f"it was picked up {row.claims} times and made no progress; the last worker died each time"
            await self._set_aside(store, row, state, reason)
            return
        self._drive(store, claimed, state, records, blobs)

    def _drive(self, store: Store, claimed: Claimed, state: State, records: Records, blobs: dict[str, bytes]) -> None:
        row = claimed.row
        # A function of another label drives nothing: its runner hears messages, an upgrade for one, and pauses the run.
        workflow = self._engine.serving(row.workflow, state.version) or self._engine.workflows[row.workflow]
        runner = Runner(
            self._engine,
            store,
            workflow,
            state,
            row.epoch,
            records=records,
            blobs=blobs,
            messages=claimed.messages,
            claims=row.claims,
        )
        self._engine.runners[row.run_id] = runner
        for message in self._early.pop(row.run_id, ()):
            runner.inbox.receive(message)
        if row.epoch == 1 and state.waits:  # a fork or an imported run: nobody here was told of its questions yet
            runner.now = max(self._engine.clock.now(), state.updated_at)
            for wait in tuple(state.waits.values()):
                QuestionDesk(runner).noticed(wait)
        runner.wake()

    async def _set_aside(
        self, store: Store, row: RunRow, state: State, reason: str, cause: PauseCause = "crash_loop"
    ) -> None:
        now = max(self._engine.clock.now(), state.updated_at)
        entries = decide(state, Pause(cause=cause, reason=reason), now) if state.pause is None else ()
        seq = state.seq + 1
        for entry in entries:
            evolve(state, entry)
        await self.trials.pardon()
        await store.append(
            Append(
                run_id=row.run_id,
                epoch=row.epoch,
                seq=seq,
                entries=entries,
                status=state.status,
                wake_at=None,
                at=now,
                release=True,
            )
        )
        self.trials.judged()
        if self._engine.feed.has_readers:
            self._engine.feed.publish(
                row.run_id, [Stored(seq + n, row.epoch, entry) for n, entry in enumerate(entries)]
            )
        self._engine.tell_end(row.run_id, state)

    async def _next_wake(self) -> int | None:
        names = self._engine.driven()
        wakes = [await store.next_wake(workflows=names) for store in (self._engine.store, self._engine.volatile)]
        return min((wake for wake in wakes if wake is not None), default=None)

    async def _wait_for_attention(self, until: int | None) -> None:
        alarm = None if until is None else self._engine.clock.call_at(until, self._attention.set)
        try:
            await self._attention.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
