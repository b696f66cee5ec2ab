"""What a run is about to write, and what is on its way to the store: one append after the other, none lost."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from stepwell.engine.executor import Attempt
from stepwell.errors import Fenced, StoreError
from stepwell.model.codec import content_hash
from stepwell.model.entries import INLINE_LIMIT, NO_PAYLOAD, AnyEntry, StepStarted
from stepwell.model.state import State
from stepwell.stores.protocol import Append, NewMessage, NewRun
from stepwell.stores.tables import NewEvent, OpenWait

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner

_log = logging.getLogger("stepwell.engine")

Launches = Sequence[Attempt]


class Beside(msgspec.Struct, gc=False):
    """What an append may carry besides entries."""

    consumed: list[int] = []
    new_runs: list[NewRun] = []
    posts: list[NewMessage] = []
    events: list[NewEvent] = []
    opened: dict[str, OpenWait] = {}
    closed: list[str] = []
    blobs: dict[str, bytes] = {}


class Ledger:
    """Gathers what belongs to one run's next append, and sees each append through.

    The runner's `committed` is called for every append that is on disk, with the attempts that it starts; `abandon`
    once, when the run belongs to another worker or the store takes nothing any more. What a store refuses for now (no
    room) is offered again, unchanged and in order.
    """

    def __init__(self, runner: Runner, epoch: int) -> None:
        self.entries: list[AnyEntry] = []
        self.on_the_way = 0
        self._beside: Beside | None = None
        self._runner = runner
        self._epoch = epoch
        self._next_seq = runner.state.seq + 1
        self._refused: list[tuple[Append, Launches]] = []
        self._is_only_fenced = True
        self._retry_alarm: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def beside(self) -> Beside:
        """What goes with the next entries; most appends have nothing, so it is made when it is asked for."""
        if self._beside is None:
            self._beside = Beside()
        return self._beside

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        beside = self._beside
        return not (self.entries or (beside is not None and (beside.consumed or beside.posts or beside.events)))

    @property
    def is_refused(self) -> bool:
        """Whether the store has no room for what was sent last; it is offered again and again."""
        return bool(self._refused)

    @property
    def reaches_out(self) -> bool:
        """Whether others are part of what is to be written: they hear of it only by a commit, and are waited for."""
        beside = self._beside
        return beside is not None and bool(
            beside.new_runs or beside.posts or beside.events or beside.opened or beside.closed
        )

    def stow(self, payload: msgspec.Raw) -> tuple[msgspec.Raw, str]:
        """What an entry carries for a payload: itself, or the hash under which it is kept."""
        if len(memoryview(payload)) <= INLINE_LIMIT:
            return payload, ""
        data = bytes(payload)
        digest = content_hash(data)
        self.beside.blobs[digest] = data
        return NO_PAYLOAD, digest

    def append(
        self,
        state: State,
        launches: Launches,
        *,
        at: int,
        wake_at: int | None,
        release: bool,
        seen: int,
        heard: Mapping[str, int],
    ) -> Sequence[AnyEntry]:
        """Send what has gathered, with the row as `state` gives it; returns the entries."""
        entries, self.entries = self.entries, []
        beside, self._beside = self._beside or _NOTHING, None
        append = Append(
            run_id=self._runner.run_id,
            epoch=self._epoch,
            seq=self._next_seq,
            entries=entries,
            status=state.status,
            wake_at=wake_at,
            at=at,
            finished_at=at if state.ended else None,
            release=release,
            progress=not _is_only_again(entries),
            seen=seen,
            heard=heard,
            consumed=tuple(beside.consumed),
            children=tuple(beside.new_runs),
            posts=tuple(beside.posts),
            blobs=beside.blobs,
            opened=tuple(beside.opened.values()),
            closed=tuple(beside.closed),
            events=tuple(beside.events),
        )
        if append.consumed:
            self._runner.engine.mailboxes.used_up(self._runner.run_id, append.consumed)
        self._next_seq += len(entries)
        self.on_the_way += 1
        self._runner.engine.hint(len(launches))
        if self._refused:
            self._refused.append((append, launches))
        else:
            self._offer(append, launches)
        return entries

    def close(self) -> None:
        """Offer nothing more; answers that still come are for nobody."""
        self._closed = True
        if self._retry_alarm is not None:
            self._retry_alarm.cancel()

    def _offer(self, append: Append, launches: Launches) -> None:
        future = self._runner.store.append(append)
        if future.done() and self.on_the_way == 1:
            self._answered(append, launches, future)
        else:  # an answer that is there already does not overtake those of earlier appends
            future.add_done_callback(functools.partial(self._answered, append, launches))

    def _answered(self, append: Append, launches: Launches, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if error is None:
            self.on_the_way -= 1
            self._runner.committed(append, launches)
        elif not self._closed:
            self._refuse(append, launches, error)

    def _refuse(self, append: Append, launches: Launches, error: BaseException) -> None:
        is_for_now = isinstance(error, StoreError) and error.retryable
        is_alone = self.on_the_way == 1 and not self._refused
        if not is_for_now and (is_alone or not isinstance(error, Fenced)):
            self._give_up(error)
            return
        # Appends that were on their way behind a refused one meet the fence because of it, and its answer may come
        # after theirs: wait until all have been answered, then offer them again, in order.
        self._refused.append((append, launches))
        if is_for_now:
            self._is_only_fenced = False
            self._runner.engine.degraded(error)  # type: ignore[arg-type]  # it is a StoreError
        if self._retry_alarm is None:
            self._retry_later()

    def _give_up(self, error: BaseException | None) -> None:
        _log.warning("run %s leaves this engine: %s", self._runner.run_id, error or "it belongs to another worker")
        self.on_the_way = 0
        self._runner.abandon()

    def _retry_later(self) -> None:
        clock = self._runner.engine.clock
        self._retry_alarm = clock.call_at(clock.now() + self._runner.engine.store_retry, self._offer_again)

    def _offer_again(self) -> None:
        self._retry_alarm = None
        if self._closed:
            return
        if len(self._refused) < self.on_the_way:  # some have not been answered yet
            self._retry_later()
            return
        if self._is_only_fenced:
            self._give_up(None)
            return
        self._is_only_fenced = True
        refused, self._refused = sorted(self._refused, key=lambda one: one[0].seq), []
        for append, launches in refused:
            self._offer(append, launches)


def _is_only_again(entries: Sequence[AnyEntry]) -> bool:
    """Whether these entries do nothing but start again what was in flight when a worker died."""
    for entry in entries:
        if not isinstance(entry, StepStarted) or entry.attempt == 1:
            return False
    return bool(entries)


def in_store(launches: Launches) -> Launches:
    """Transactional attempts: whatever the run's durability, their start is on disk before what they write."""
    return [attempt for attempt in launches if attempt.task.options.transactional]


def not_in_store(launches: Launches) -> Launches:
    """The other attempts."""
    return [attempt for attempt in launches if not attempt.task.options.transactional]


_NOTHING = Beside()
"""Nothing besides entries; nobody adds to it."""
