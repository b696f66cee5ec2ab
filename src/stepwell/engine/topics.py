"""Who in this engine waits for events: what is published reaches each run's subscriptions once, in order.

The store's table of events is the truth, and the position in it the order. A subscription first reads the events that
are there already (its *scan*); from then on it is offered what this engine sees being published. An offer that the scan
has covered is known by its position; while a scan is not through, offers are left to it.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from stepwell.errors import StepwellError, StoreError
from stepwell.expressions import logic
from stepwell.model.entries import WaitStarted
from stepwell.model.ids import StepPath
from stepwell.model.requests import read_event_spec
from stepwell.stores.protocol import Store
from stepwell.stores.tables import Event

if TYPE_CHECKING:
    from stepwell.engine.runner import Runner
    from stepwell.engine.worker import Engine

PAGE = 200
"""Events read at a time."""

_log = logging.getLogger("stepwell.engine")


class Subscription:
    """The event waits of one run that share a topic and a filter."""

    def __init__(self, runner: Runner, topic: str, where: bytes, since: int, cursor: int) -> None:
        self.topic = topic
        self.takers: deque[StepPath] = deque()
        self._runner = runner
        self._rule = None if where == logic.NO_RULE else logic.rule(where)
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
            self._runner.engine.topics.read(self._runner.store, self)

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
        """The position up to which all events of the topic have been looked at."""
        if not self._is_live:
            return self._position
        return max(self._position, self._runner.engine.topics.offered(self._runner.store))

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

    def offer(self, event: Event) -> None:
        """The engine has seen this event being published."""
        if event.position <= self._position:
            return
        if self._is_live and self.takers:
            self._keep(event)
            self._runner.wake()
        else:  # a scan reads it, for whoever waits next: what nobody waits for is not kept in memory
            self._missed = max(self._missed, event.position)
            self._is_live = False

    def _keep(self, event: Event) -> None:
        self._position = max(self._position, event.position)
        if not self._fits(event):
            return
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
        while self.takers and self._queue:
            wait = waits.get(self.takers[0])
            if wait is None:
                self.takers.popleft()
                continue
            event = self._queue.popleft()
            if not event.transient or event.at >= wait.at:
                return self.takers.popleft(), event
        if self.takers and not self._is_live:
            self.scan()
        return None


class Topics:
    """Tells the subscriptions of one engine's runs what is published."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._subscriptions: dict[str, dict[Subscription, None]] = {}
        self._last: dict[int, int] = {}
        self._unread: set[int] = set()
        self._is_reading = False

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

    def read_soon(self, store: Store) -> None:
        """Something was published, perhaps."""
        if not self._subscriptions:
            self._last.pop(id(store), None)  # whoever joins next begins with what is there then
            return
        self._unread.add(id(store))
        if not self._is_reading:
            self._is_reading = True
            self._engine.chore(self._read_new())

    async def _read_new(self) -> None:
        try:
            while self._unread:
                for store in (self._engine.store, self._engine.volatile):
                    if id(store) in self._unread:
                        self._unread.discard(id(store))
                        await self._read_page(store)
        except StoreError as error:
            if not error.retryable:
                raise
            self._engine.degraded(error)
            await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
            self._unread.update((id(self._engine.store), id(self._engine.volatile)))
            self._engine.chore(self._read_new())
            return
        self._is_reading = False

    async def _read_page(self, store: Store) -> None:
        page = await store.events(after=await self._seen(store), limit=PAGE)
        for event in page:
            for subscription in tuple(self._subscriptions.get(event.topic, ())):
                subscription.offer(event)
        if page:
            self._last[id(store)] = page[-1].position
        if len(page) == PAGE:
            self._unread.add(id(store))

    async def _seen(self, store: Store) -> int:
        """Up to which event subscriptions have been offered all; what was published before is in scans that follow."""
        if id(store) not in self._last:
            last = await store.last_event()
            self._last.setdefault(id(store), last)  # a scan that has begun meanwhile relies on what it found
        return self._last[id(store)]

    def offered(self, store: Store) -> int:
        """The position up to which subscriptions have been offered all that they had not scanned."""
        return self._last.get(id(store), 0)

    def read(self, store: Store, subscription: Subscription) -> None:
        """Let a subscription scan."""
        self._engine.chore(self._scan(store, subscription))

    async def _scan(self, store: Store, subscription: Subscription) -> None:
        while True:
            topic, after, since = subscription.reading
            try:
                await self._seen(store)
                last = await store.last_event()
                page = await store.events(after=after, topic=topic, since=since, limit=PAGE)
            except StoreError as error:
                if not error.retryable:
                    raise
                self._engine.degraded(error)
                await self._engine.nap(self._engine.clock.now() + self._engine.store_retry)
                continue
            if not subscription.scanned(page, last):
                return


def subscription_for(runner: Runner, wait: WaitStarted) -> tuple[str, Subscription]:
    """The name of the subscription that a wait belongs to, and a new one for it."""
    spec = read_event_spec(wait.spec)
    name = spec.subscription(wait.name)
    since = spec.since or runner.state.created_at
    return name, Subscription(runner, wait.name, bytes(spec.where), since, runner.state.cursors.get(name, 0))
