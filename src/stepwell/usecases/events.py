"""Events: published for whoever listens, kept for a while."""

from __future__ import annotations

import asyncio
from typing import Any

from stepwell.errors import RequestRefused
from stepwell.model import cloudevents
from stepwell.model.codec import ValueCodec, is_typed
from stepwell.model.durations import Duration, micros
from stepwell.model.entries import PAYLOAD_LIMIT
from stepwell.stores.tables import Event, NewEvent
from stepwell.usecases.base import UseCases


class Events(UseCases):
    """What is published, and by whom."""

    async def publish(
        self,
        topic: str,
        data: object = None,
        *,
        id: str = "",
        source: str = "stepwell",
        subject: str = "",
        transient: bool = False,
    ) -> bool:
        """Publish an event; when this returns it is in the store, and every run that waits for it gets it.

        Args:
            topic: what happened, such as `order.paid`; the `type` of the CloudEvent.
            data: what there is to know, as JSON values or a typed object.
            id: with `source` the event's identity: a second one with both the same is not published. Made up by
                default.
            source: who publishes.
            subject: what it is about within the source.
            transient: it is for those who wait now; others never see it.

        Returns:
            False when an event of this source and id had been published before.

        Raises:
            RequestRefused: the topic or the source is empty, or the data too large.
            Unserialisable: the data cannot be written.
        """
        if not (topic and source):
            raise RequestRefused(f"an event needs a topic and a source; found topic {topic!r}, source {source!r}")
        codec = ValueCodec(type(data) if is_typed(data) else Any, f"event {topic!r}")
        now = self._clock.now()
        name = id or f"{now:x}-{self._chance.getrandbits(48):012x}"
        body = cloudevents.envelope(topic, codec.encode(data), id=name, source=source, at=now, subject=subject)
        return await self._put(NewEvent(topic, source, name, body, now, transient))

    async def publish_event(self, event: bytes, *, transient: bool = False) -> bool:
        """Publish a CloudEvent as it came, in structured JSON mode; extension attributes are kept.

        Its type is the topic. Returns, and is idempotent, as `publish` says.

        Raises:
            RequestRefused: it is not a CloudEvent 1.0, or too large.
        """
        found = cloudevents.read(event)
        return await self._put(NewEvent(found.type, found.source, found.id, event, self._clock.now(), transient))

    async def _put(self, event: NewEvent) -> bool:
        if len(event.body) > PAYLOAD_LIMIT:
            raise RequestRefused(
                f"event {event.id} of topic {event.topic!r} is {len(event.body):,} bytes; the limit is "
                f"{PAYLOAD_LIMIT:,}: publish the name of a file or object instead"
            )
        publishing = self.store.publish(event)
        publishing.add_done_callback(self._published)
        return await asyncio.shield(publishing) is not None

    def _published(self, done: asyncio.Future[Event | None]) -> None:
        if not done.cancelled() and done.exception() is None and self._engine is not None:
            self._engine.topics.read_soon()
            self._engine.scheduling.look()
            self._engine.claims.look()

    async def events(self, *, after: int = 0, topic: str | None = None, limit: int = 100) -> list[Event]:
        """Published events by position, from `after` on, of one topic or all."""
        return await self.store.events(after=after, topic=topic, limit=limit)

    async def forget_events(self, *, older_than: Duration) -> int:
        """Delete events published longer ago than this; returns how many."""
        return await self.store.forget_events(before=self._clock.now() - micros(older_than, "older_than"))
