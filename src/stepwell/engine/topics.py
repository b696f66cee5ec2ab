"""Who in this engine waits for events: what is published reaches each run's subscriptions once, in order.

The store's table of events is the truth, and the position in it the order. A subscription first reads the events that
are there already (its *scan*); from then on it is offered what this engine sees being published. An offer that the scan
has covered is known by its position; one that comes while a scan is under way makes it read once more. All events are
in the engine's own store, also those that runs in memory publish and wait for.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from stepwell.errors import StepwellError
from stepwell.model.entries import NULL, WaitStarted
from stepwell.model.ids import SECOND, StepPath
from stepwell.model.requests import read_event_spec
from stepwell.stores.tables import Event, NewEvent

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner
    from stepwell.engine.worker import Engine
    from stepwell.expressions.logic import Rule

PAGE = 200
"""Events read at a time, and about as many are kept in memory for one subscription."""

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_log = logging.getLogger("stepwell.engine")


class Subscription:
    """The event waits of one run that share a topic and a filter."""

    def __init__(self, runner: Runner, topic: str, where: bytes, since: int, cursor: int) -> None:
        self.topic = topic
        self.takers: deque[StepPath] = deque()
        self._runner = runner
        self._rule = _rule(where)
        self._since = since
        self._queue: deque[Event] = deque()
        self._position = cursor
        self._missed = 0
        self._is_scanning = False
        self._is_live = False

    def scan(self) -> None:
        """Read what is there already, unless that has been done or is under way."""
        if not (self._is_scanning or self._is_live):
            self._is_scanning = True
            self._runner.engine.topics.read(self)

    @property
    def is_scanning(self) -> bool:
        """Whether a scan is under way."""
        return self._is_scanning

    @property
    def reading(self) -> tuple[str, int, int]:
        """What the scan reads next: topic, after which position, since when."""
        return self.topic, self._position, self._since

    @property
    def heard(self) -> int:
        """The position up to which all events of the topic have been looked at, and given to a wait if they fit."""
        if self._queue:
            return self._queue[0].position - 1
        return max(self._position, self._runner.engine.topics.offered) if self._is_live else self._position

    def scanned(self, page: list[Event], last: int) -> bool:
        """A page was read, and before it the `last` position; True when more is to be read for somebody who waits."""
        if self._runner.gone:
            return False
        for event in page:
            self._keep(event)
        if len(page) < PAGE:
            self._position = max(self._position, last)  # what is not in the page does not count
        # What was offered during the scan may have been published after the moment that the scan saw: look again.
        self._is_live = len(page) < PAGE and self._missed <= self._position
        self._is_scanning = not self._is_live and not self._queue
        self._runner.wake()
        return self._is_scanning

    def stopped(self) -> None:
        """No page follows, whether all was read, enough, or the store cannot be."""
        self._is_scanning = False

    def offer(self, event: Event) -> None:
        """The engine has seen this event being published."""
        if event.position <= self._position:
            return
        if self._is_live and self.takers and len(self._queue) < PAGE:
            self._keep(event)
            self._runner.wake()
        else:  # a scan reads it when it is wanted: what nobody takes now is not kept in memory
            self._missed = max(self._missed, event.position)
            self._is_live = False

    def _keep(self, event: Event) -> None:
        self._position = max(self._position, event.position)
        if self._fits(event):
            self._queue.append(event)

    def _fits(self, event: Event) -> bool:
        if event.at < self._since:
            return False
        try:
            return self._rule is None or self._rule.holds(event.body)
        except StepwellError as error:
            _log.warning("run %s, event %s of topic %s: %s", self._runner.run_id, event.id, self.topic, error)
            return False

    def take(self) -> tuple[StepPath, Event] | None:
        """The next wait and the event that satisfies it, if there are both."""
        waits = self._runner.state.waits
        while self.takers and (wait := waits.get(self.takers[0])) is None:
            self.takers.popleft()
        while self.takers and self._queue:
            event = self._queue.popleft()
            wait = waits[self.takers[0]]
            if not event.transient or event.at >= wait.at:
                return self.takers.popleft(), event
        if self.takers and not self._is_live:
            self.scan()
        return None


class Topics:
    """Tells the subscriptions of one engine's runs what is published, and forgets what is old."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._subscriptions: dict[str, dict[Subscription, None]] = {}
        self._last: int | None = None
        self._has_news = False
        self._is_reading = False

    @property
    def offered(self) -> int:
        """The position up to which subscriptions have been offered all that they had not scanned."""
        return self._last or 0

    def join(self, subscription: Subscription) -> None:
        """From now on it is offered what is published on its topic."""
        self._subscriptions.setdefault(subscription.topic, {})[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """It wants no more."""
        known = self._subscriptions.get(subscription.topic)
        if known is not None:
            known.pop(subscription, None)
            if not known:
                del self._subscriptions[subscription.topic]

    # -- what is published --------------------------------------------------------------------------------------

    def publish(self, events: Iterable[NewEvent]) -> None:
        """Publish what runs in memory have said: their own store is seen by nobody else."""
        for event in events:
            self._engine.chore(self._publish(event))

    async def _publish(self, event: NewEvent) -> None:
        await self._engine.insist(lambda: self._engine.store.publish(event))
        self.read_soon()
        self._engine.claims.look()
        self._engine.scheduling.look()

    def read_soon(self) -> None:
        """Something was published, perhaps."""
        if not self._subscriptions:
            self._last = None  # whoever comes next begins where the store then ends
            return
        self._has_news = True
        if not self._is_reading:
            self._is_reading = True
            self._engine.chore(self._read_new())

    async def _read_new(self) -> None:
        try:
            while self._has_news and not self._engine.closing:
                self._has_news = False
                await self._read_page()
        finally:
            self._is_reading = False

    async def _read_page(self) -> None:
        if self._last is None:  # nobody has scanned yet: whoever does reads all that is there by then
            await self._begin()
            return
        page = await self._read_events(after=self._last)
        for event in page:
            for subscription in tuple(self._subscriptions.get(event.topic, ())):
                subscription.offer(event)
        if page:
            self._last = page[-1].position
        if len(page) == PAGE:
            self._has_news = True

    async def _begin(self) -> None:
        last = await self._engine.insist(self._engine.store.last_event)
        if self._last is None:  # of several who asked at the same time the first has the say
            self._last = last

    async def _read_events(self, *, after: int = 0, topic: str | None = None, since: int = 0) -> list[Event]:
        store = self._engine.store
        return await self._engine.insist(lambda: store.events(after=after, topic=topic, since=since, limit=PAGE))

    # -- what is there already ----------------------------------------------------------------------------------

    def read(self, subscription: Subscription) -> None:
        """Let a subscription scan."""
        self._engine.chore(self._scan(subscription))

    async def _scan(self, subscription: Subscription) -> None:
        try:
            # What is published from here on is offered; what was before is in the pages that follow.
            if self._last is None:
                await self._begin()
            while not self._engine.closing:
                topic, after, since = subscription.reading
                last = await self._engine.insist(self._engine.store.last_event)
                page = await self._read_events(after=after, topic=topic, since=since)
                if not subscription.scanned(page, last):
                    return
        finally:
            subscription.stopped()

    # -- what is old --------------------------------------------------------------------------------------------

    async def keep_forgetting(self, older_than: int) -> None:
        """Once a day delete the events published more than `older_than` microseconds ago."""
        await self._engine.nap(self._engine.clock.now() + MINUTE)  # a process that lives shortly has other cares
        while True:
            await self._forget(self._engine.clock.now() - older_than)
            await self._engine.nap(self._engine.clock.now() + DAY)

    async def _forget(self, before: int) -> None:
        """Delete what was published before this time, an hour's worth at a time: others write in between."""
        store, insist = self._engine.store, self._engine.insist
        while oldest := await insist(lambda: store.events(limit=1)):
            until = min(before, oldest[0].at + HOUR)
            if oldest[0].at >= until:
                return
            await insist(functools.partial(store.forget_events, before=until))


def subscription_for(runner: Runner, wait: WaitStarted) -> tuple[str, Subscription]:
    """The name of the subscription that a wait belongs to, and a new one for it."""
    spec = read_event_spec(wait.spec)
    name = spec.subscription(wait.name)
    since = spec.since or runner.state.created_at
    return name, Subscription(runner, wait.name, bytes(spec.where), since, runner.state.cursors.get(name, 0))


def _rule(where: bytes) -> Rule | None:
    if where == bytes(NULL):
        return None
    from stepwell.expressions import logic  # loaded when it is wanted, as is the library behind it

    return logic.rule(where)
