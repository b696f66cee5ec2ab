"""Is an event that was published kept once, in order, and told to whoever waits for it?"""

from __future__ import annotations

import asyncio
import unittest

from stepwell.errors import Fenced
from stepwell.stores.protocol import Store
from stepwell.testing.conformance.kit import (
    Broken,
    Kit,
    appended,
    asked,
    break_at,
    claim_one,
    ended,
    happened,
    new_run,
    refused,
    row_of,
)


class EventTests(Kit):
    """Publishing, reading, forgetting."""

    async def test_a_published_event_is_there_with_its_position(self) -> None:
        async with self.client() as store:
            assert await store.last_event() == 0
            event = await store.publish(happened("e1", at=7, transient=True))
            assert event is not None
            assert (event.topic, event.source, event.id, event.body, event.at, event.transient) == (
                ("orders", "test", "e1", b'{"id":"e"}', 7, True)
            )
            assert await store.events() == [event]
            assert await store.last_event() == event.position > 0

    async def test_events_are_read_by_position_topic_and_time(self) -> None:
        async with self.client() as store:
            for n in range(6):
                await store.publish(happened(f"e{n}", "odd" if n % 2 else "even", at=100 - n))
            all_of_them = await store.events()
            assert [event.id for event in all_of_them] == [f"e{n}" for n in range(6)]
            positions = [event.position for event in all_of_them]
            assert positions == sorted(set(positions))
            assert [event.id for event in await store.events(topic="odd")] == ["e1", "e3", "e5"]
            assert [event.id for event in await store.events(after=positions[2])] == ["e3", "e4", "e5"]
            assert [event.id for event in await store.events(after=positions[2], topic="even")] == ["e4"]
            assert [event.id for event in await store.events(since=97)] == ["e0", "e1", "e2", "e3"]
            assert [event.id for event in await store.events(since=97, topic="odd", limit=1)] == ["e1"]
            assert [event.id for event in await store.events(limit=2)] == ["e0", "e1"]
            assert await store.events(limit=0) == []
            assert await store.events(topic="none") == []

    async def test_an_event_of_the_same_source_and_id_is_stored_once(self) -> None:
        async with self.client() as store, self.client() as other:
            first = await store.publish(happened("e1", source="a"))
            assert await store.publish(happened("e1", "elsewhere", source="a")) is None
            assert await other.publish(happened("e1", source="a")) is None
            assert await other.publish(happened("e1", source="b")) is not None
            assert first in await other.events()
            assert len(await store.events()) == 2

    async def test_the_same_event_published_many_times_at_once_is_stored_once(self) -> None:
        async with self.client() as store:
            published = await asyncio.gather(*(store.publish(happened("e1")) for _ in range(8)))
            assert [event is None for event in published].count(False) == 1
            assert len(await store.events()) == 1

    async def test_events_published_at_once_have_positions_in_the_order_of_the_calls(self) -> None:
        async with self.client() as store:
            published = await asyncio.gather(*(store.publish(happened(f"e{n}")) for n in range(60)))
            assert published == await store.events()
            assert [event.id for event in await store.events()] == [f"e{n}" for n in range(60)]

    async def test_an_event_of_another_process_is_noticed(self) -> None:
        async with self.client() as store, self.client() as other:
            if not store.is_shared:
                raise unittest.SkipTest("nobody else writes to this store")
            store.changed()
            await other.publish(happened("e1"))
            while not store.changed():  # noqa: ASYNC110  # this is how the engine looks, too
                await asyncio.sleep(0.001)

    async def test_an_event_wakes_unowned_runs_that_wait_for_its_topic(self) -> None:
        async with self.driver() as store:
            for name, topic, wake_at in (("a", "orders", None), ("b", "orders", 90), ("c", "orders", 20)):
                await _waits_for(store, name, topic, wake_at)
            await _waits_for(store, "d", "mail", None)
            await store.create(new_run("e", owner="w1"))
            await store.append(appended("e", 2, "x", opened=(asked("we", "e", kind="event", name="orders"),)))
            await store.create(new_run("f", owner="w1"))
            await store.append(
                appended("f", 2, "x", status="waiting", release=True, opened=(asked("wf", "f", name="orders"),))
            )
            await store.publish(happened("e1", at=40))
            wakes = {name: (await row_of(store, name)).wake_at for name in "abcdef"}
            assert wakes == {"a": 40, "b": 40, "c": 20, "d": None, "e": None, "f": None}
            assert await store.next_wake(workflows=["shop"]) == 20

    async def test_an_event_that_was_known_wakes_nobody(self) -> None:
        async with self.driver() as store:
            await store.publish(happened("e1", at=4))
            await _waits_for(store, "a", "orders", None)
            await store.publish(happened("e1", at=5))
            assert (await row_of(store, "a")).wake_at is None

    async def test_a_closed_wait_is_not_woken_by_events(self) -> None:
        async with self.driver() as store:
            await _waits_for(store, "a", "orders", 1)
            claimed = await claim_one(store)
            await store.append(appended(claimed, 3, "y", status="waiting", release=True, closed=("wa",)))
            await store.publish(happened("e1"))
            assert (await row_of(store, "a")).wake_at is None

    async def test_events_of_an_append_are_published_with_it(self) -> None:
        async with self.driver() as store:
            await _waits_for(store, "b", "orders", None)
            await store.create(new_run("a", owner="w1"))
            await store.publish(happened("e1", at=3))
            events = (happened("e1", at=8), happened("e2", at=8), happened("e2", at=9), happened("e3", at=7))
            await store.append(appended("a", 2, "x", events=events))
            assert [event.id for event in await store.events()] == ["e1", "e2", "e3"]
            assert (await row_of(store, "b")).wake_at == 3

    async def test_an_append_may_publish_and_nothing_else(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, events=(happened("e1"),)))
            await store.append(appended("a", 2, "x"))
            assert len(await store.events()) == 1

    async def test_a_run_that_publishes_what_it_waits_for_wakes_itself(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(
                appended(
                    "a",
                    2,
                    "x",
                    status="waiting",
                    release=True,
                    opened=(asked("wa", kind="event", name="orders"),),
                    events=(happened("e1", at=6),),
                )
            )
            assert (await row_of(store, "a")).wake_at == 6

    async def test_a_refused_append_publishes_nothing(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            with refused(Fenced):
                await store.append(appended("a", 7, "x", events=(happened("e1"),)))
            assert await store.events() == []

    async def test_nothing_of_a_broken_publication_remains(self) -> None:
        async with self.driver() as store:
            await _waits_for(store, "a", "orders", None)
            self.fault(store, break_at("published"))
            with refused(Broken):
                await store.publish(happened("e1"))
            self.fault(store, None)
            assert await store.events() == []
            assert (await row_of(store, "a")).wake_at is None
            assert await store.publish(happened("e1")) is not None

    async def test_events_are_forgotten_by_their_age_and_their_positions_are_not_used_again(self) -> None:
        async with self.client() as store:
            for n in range(4):
                await store.publish(happened(f"e{n}", at=10 * n))
            last = await store.last_event()
            assert await store.forget_events(before=20) == 2
            assert [event.id for event in await store.events()] == ["e2", "e3"]
            assert await store.forget_events(before=20) == 0
            assert await store.forget_events(before=99) == 2
            assert await store.events() == []
            assert await store.last_event() == last
        async with self.client() as store:
            assert await store.last_event() == last
            event = await store.publish(happened("e0"))
            assert event is not None and event.position > last

    async def test_events_stay_when_the_runs_that_published_them_go(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, "x", events=(happened("e1"),)))
            await ended(store, "a")
            assert await store.delete(finished_before=100) == 1
            assert [event.id for event in await store.events()] == ["e1"]


async def _waits_for(store: Store, run_id: str, topic: str, wake_at: int | None) -> None:
    """An unowned run that waits for a topic."""
    await store.create(new_run(run_id, owner="w1"))
    wait = asked(f"w{run_id}", run_id, kind="event", name=topic)
    await store.append(appended(run_id, 2, "x", status="waiting", wake_at=wake_at, release=True, opened=(wait,)))
