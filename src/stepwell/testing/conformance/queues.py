"""Does a queue let in as many as its limits allow, in the right order, and never stop for good?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from stepwell.model.lifecycle import Status
from stepwell.stores.protocol import NewMessage, RunRow, Store
from stepwell.stores.tables import Admission, Queue
from stepwell.testing.conformance.kit import (
    LEASE,
    Broken,
    Kit,
    appended,
    break_at,
    claim_one,
    ended,
    mail,
    new_run,
    refused,
    row_of,
)


class QueueTests(Kit):
    """Holding, admitting, limits."""

    async def test_a_held_run_is_not_claimable_before_it_is_let_in(self) -> None:
        async with self.driver() as store:
            row = await _held(store, "a", wake_at=3)
            assert (row.held_until, row.wake_at, row.queue, row.status) == (3, None, "q", "pending")
            assert await store.next_wake(workflows=["shop"]) is None
            assert await store.claim("w1", workflows=["shop"], now=99, limit=9) == []
            assert await store.admit("q", now=50) == Admission(("a",), None)
            row = await row_of(store, "a")
            assert (row.held_until, row.wake_at) == (None, 50)
            assert (await claim_one(store, now=50)).row.run_id == "a"
            assert await store.admit("q", now=60) == Admission((), None)

    async def test_runs_go_in_by_priority_then_by_time_then_by_their_creation(self) -> None:
        async with self.client() as store:
            for name, priority, at in (("f", 0, 5), ("b", 9, 8), ("e", 0, 5), ("a", 9, 7), ("d", 0, 4), ("g", -1, 1)):
                await _held(store, name, priority=priority, wake_at=at)
            assert (await store.admit("q", now=50)).admitted == ("a", "b", "d", "f", "e", "g")

    async def test_a_delayed_run_waits_for_its_time_and_the_queue_says_when(self) -> None:
        async with self.client() as store:
            await _held(store, "later", wake_at=30, priority=5)
            await _held(store, "latest", wake_at=40)
            await _held(store, "now", wake_at=10)
            assert await store.admit("q", now=10) == Admission(("now",), 30)
            assert await store.admit("q", now=29) == Admission((), 30)
            assert await store.admit("q", now=30) == Admission(("later",), 40)
            assert await store.admit("q", now=99) == Admission(("latest",), None)

    async def test_only_so_many_are_let_in_with_one_call(self) -> None:
        async with self.client() as store:
            for n in range(5):
                await _held(store, f"r{n}")
            assert await store.admit("q", now=9, limit=2) == Admission(("r0", "r1"), 9)
            assert await store.admit("q", now=9, limit=3) == Admission(("r2", "r3", "r4"), None)

    async def test_queues_are_strangers_to_each_other(self) -> None:
        async with self.client() as store:
            await store.put_queue(Queue(name="q", concurrency=1))
            for n in range(2):
                await _held(store, f"q{n}")
                await _held(store, f"p{n}", queue="p")
            assert (await store.admit("q", now=9)).admitted == ("q0",)
            assert (await store.admit("p", now=9)).admitted == ("p0", "p1")
            assert await store.admit("none", now=9) == Admission((), None)

    async def test_all_queues_are_listed_with_who_waits_and_who_is_under_way(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=2, rate=9, period=5))
            await store.put_queue(Queue(name="empty"))
            for n in range(4):
                await _held(store, f"r{n}")
            await _held(store, "p", queue="only runs")
            await store.create(new_run("plain"))
            await store.admit("q", now=9)
            await _end(store, "r0", now=10)
            assert [(row.queue, row.waiting, row.active) for row in await store.queues()] == [
                (Queue(name="empty"), 0, 0),
                (Queue(name="only runs"), 1, 0),
                (Queue(name="q", concurrency=2, rate=9, period=5), 2, 1),
            ]

    async def test_a_paused_queue_lets_nobody_in_until_it_is_changed(self) -> None:
        async with self.client() as store, self.client() as other:
            await store.put_queue(Queue(name="q", paused=True))
            await _held(store, "a")
            await _held(store, "b", wake_at=100)
            assert await other.admit("q", now=9) == Admission((), None)
            await store.put_queue(Queue(name="q"))
            assert await other.admit("q", now=9) == Admission(("a",), 100)

    # -- concurrency --------------------------------------------------------------------------------------------
    async def test_as_many_as_the_limit_are_under_way_until_one_ends(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=2))
            for n in range(5):
                await _held(store, f"r{n}")
            assert await store.admit("q", now=9) == Admission(("r0", "r1"), None)
            assert await store.admit("q", now=9) == Admission((), None)
            claimed = await store.claim("w1", workflows=["shop"], now=9, limit=9)
            assert [one.row.run_id for one in claimed] == ["r0", "r1"]
            await store.append(appended("r0", 2, "x", status="waiting", release=True))
            await store.append(appended("r1", 2, "x", status="paused", release=True))
            assert (await store.admit("q", now=9)).admitted == ()
            ends: tuple[tuple[Status, str], ...] = (("failed", "r0"), ("cancelled", "r1"))
            for status, name in ends:
                await store.post(mail(name, at=9))
                again = await claim_one(store)
                await store.append(appended(again, 3, "y", status=status, finished_at=10))
            assert (await store.admit("q", now=11)).admitted == ("r2", "r3")

    async def test_a_run_that_was_not_held_counts_as_under_way(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=2))
            await store.create(new_run("a", owner="w1", queue="q"))
            for n in range(2):
                await _held(store, f"r{n}")
            assert (await store.admit("q", now=9)).admitted == ("r0",)
            await ended(store, "a")
            assert (await store.admit("q", now=9)).admitted == ("r1",)

    async def test_a_limit_that_is_lowered_lets_nobody_in_and_stops_nobody(self) -> None:
        async with self.driver() as store:
            for n in range(4):
                await _held(store, f"r{n}")
            assert len((await store.admit("q", now=9, limit=3)).admitted) == 3
            await store.put_queue(Queue(name="q", concurrency=1))
            await _end(store, "r0", now=9)
            assert (await store.admit("q", now=9)).admitted == ()
            for name in ("r1", "r2"):
                await _end(store, name, now=9)
            assert (await store.admit("q", now=9)).admitted == ("r3",)

    async def test_a_key_at_its_limit_does_not_keep_others_waiting(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency_per_key=1))
            for name, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b"), ("c1", "c")):
                await _held(store, name, key=key)
            assert (await store.admit("q", now=9)).admitted == ("a1", "b1", "c1")
            assert await store.admit("q", now=9) == Admission((), None)
            await _end(store, "b1", now=9)
            assert (await store.admit("q", now=9)).admitted == ("b2",)

    async def test_runs_without_a_key_share_no_limit(self) -> None:
        async with self.client() as store:
            await store.put_queue(Queue(name="q", concurrency_per_key=1, rate_per_key=1, period=100))
            for n in range(3):
                await _held(store, f"r{n}")
            assert (await store.admit("q", now=9)).admitted == ("r0", "r1", "r2")

    async def test_thousands_of_a_hot_key_in_front_do_not_hide_the_others(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=4, concurrency_per_key=1))
            hot = [new_run(f"hot{n}", queue="q", queue_key="hot", held=True, priority=n % 2) for n in range(1500)]
            await asyncio.gather(*map(store.create, hot))
            for n, (key, priority) in enumerate((("cold", 0), ("cool", 0), ("cool", 1), ("cold", -1), ("warm", 7))):
                await _held(store, f"r{n}", key=key, priority=priority, wake_at=5)
            await _held(store, "delayed", key="new", wake_at=70)
            admission = await store.admit("q", now=9)
            assert admission == Admission(("r4", "hot1", "r2", "r0"), 70)
            await store.put_queue(Queue(name="q", concurrency=9, concurrency_per_key=2))
            assert (await store.admit("q", now=9)).admitted == ("hot3", "r1", "r3")
            for name in ("hot1", "hot3"):
                await _end(store, name, now=9)
            assert (await store.admit("q", now=10)).admitted == ("hot5", "hot7")

    async def test_many_keys_go_on_in_order_when_the_first_ones_are_full(self) -> None:
        async with self.client() as store:
            await store.put_queue(Queue(name="q", concurrency_per_key=3))
            hot = [new_run(f"hot{n}", queue="q", queue_key="hot", held=True) for n in range(400)]
            others = [
                new_run(
                    f"k{n % 7}.{n}", queue="q", queue_key=f"k{n % 7}", held=True, wake_at=2 + n % 3, priority=-(n % 2)
                )
                for n in range(70)
            ]
            await asyncio.gather(*map(store.create, [*hot, *others]))
            expected = ["hot0", "hot1", "hot2"]
            taken: dict[str, int] = {}
            for new in sorted(others, key=lambda new: (-new.priority, new.wake_at)):
                taken[new.queue_key] = taken.get(new.queue_key, 0) + 1
                if taken[new.queue_key] <= 3:
                    expected.append(new.run_id)
            assert list((await store.admit("q", now=9)).admitted) == expected

    # -- rates --------------------------------------------------------------------------------------------------
    async def test_a_rate_lets_in_so_many_per_period_and_says_when_the_next_may(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", rate=2, period=100))
            for n in range(6):
                await _held(store, f"r{n}")
            assert await store.admit("q", now=1000, limit=1) == Admission(("r0",), 1000)
            assert await store.admit("q", now=1030) == Admission(("r1",), 1100)
            await _end(store, "r0", now=1031)
            assert await store.admit("q", now=1099) == Admission((), 1100)
            assert await store.admit("q", now=1100) == Admission(("r2",), 1130)
            assert await store.admit("q", now=1500) == Admission(("r3", "r4"), 1600)
            assert await store.admit("q", now=1600) == Admission(("r5",), None)

    async def test_a_rate_of_a_key_keeps_only_that_key_waiting(self) -> None:
        async with self.client() as store:
            await store.put_queue(Queue(name="q", rate_per_key=1, period=100))
            for name, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")):
                await _held(store, name, key=key, wake_at=1030 if key == "c" else 1)
            assert await store.admit("q", now=1000) == Admission(("a1", "b1"), 1030)
            assert await store.admit("q", now=1030) == Admission(("c1",), 1100)
            assert await store.admit("q", now=1100) == Admission(("a2",), None)

    async def test_a_rate_of_a_hot_key_does_not_hide_the_others(self) -> None:
        async with self.client() as store:
            await store.put_queue(Queue(name="q", rate_per_key=2, period=100))
            hot = [new_run(f"hot{n}", queue="q", queue_key="hot", held=True) for n in range(600)]
            await asyncio.gather(*map(store.create, hot))
            await _held(store, "cold", key="cold")
            assert await store.admit("q", now=1000) == Admission(("hot0", "hot1", "cold"), 1100)

    async def test_rate_and_concurrency_hold_together(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1, rate=2, period=100))
            for n in range(4):
                await _held(store, f"r{n}")
            assert (await store.admit("q", now=1000)).admitted == ("r0",)
            assert (await store.admit("q", now=1001)).admitted == ()
            await _end(store, "r0", now=1001)
            assert (await store.admit("q", now=1002)).admitted == ("r1",)
            await _end(store, "r1", now=1003)
            assert await store.admit("q", now=1003) == Admission((), 1100)
            assert (await store.admit("q", now=1100)).admitted == ("r2",)

    async def test_runs_that_were_not_held_count_for_the_rate(self) -> None:
        async with self.client() as store:
            await store.put_queue(Queue(name="q", rate=1, period=100))
            await store.create(new_run("a", queue="q", created_at=990))
            await _held(store, "b")
            assert await store.admit("q", now=1000) == Admission((), 1090)

    async def test_a_limit_of_none_at_all_lets_nobody_in(self) -> None:
        async with self.client() as store:
            await _held(store, "a", key="k")
            for queue in (
                Queue(name="q", concurrency=0),
                Queue(name="q", concurrency_per_key=0),
                Queue(name="q", rate=0, period=9),
                Queue(name="q", rate_per_key=0, period=9),
            ):
                await store.put_queue(queue)
                assert await store.admit("q", now=9) == Admission((), None)

    # -- parents and children -----------------------------------------------------------------------------------
    async def test_a_full_queue_whose_runs_all_wait_for_children_lets_one_of_those_in(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1))
            await _parent(store, "a", ["a/1", "a/2"])
            await _held(store, "other", priority=9)
            assert (await store.admit("q", now=9)).admitted == ("a/1",)
            assert (await store.admit("q", now=9)).admitted == ()
            await _end(store, "a/1", now=9)
            assert (await store.admit("q", now=9)).admitted == ("a/2",)
            await _end(store, "a/2", now=9)
            assert (await store.admit("q", now=9)).admitted == ()

    async def test_a_chain_of_parents_goes_down_to_its_last_child(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1, concurrency_per_key=1))
            await _parent(store, "a", ["a/b"])
            for name in ("a/b", "a/b/c", "a/b/c/d"):
                assert (await store.admit("q", now=9)).admitted == (name,)
                claimed = await claim_one(store)
                child = new_run(f"{name}/{chr(ord(name[-1]) + 1)}", **_of(name))
                await store.append(appended(claimed, 2, "x", status="waiting", release=True, children=(child,)))

    async def test_a_full_queue_in_which_one_run_moves_lets_nobody_in(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=2))
            await _parent(store, "a", ["a/1"])
            await store.create(new_run("busy", owner="w1", queue="q"))
            for status in ("running", "waiting", "paused"):
                row = await row_of(store, "busy")
                await store.append(appended("busy", row.next_seq, "x", status=status))
                assert (await store.admit("q", now=9)).admitted == ()
            await ended(store, "busy")
            assert (await store.admit("q", now=9)).admitted == ("a/1",)

    async def test_a_child_that_nobody_waits_for_does_not_go_in_over_the_limit(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1))
            await _parent(store, "a", ["a/1"])
            await _end(store, "a/1", now=9, admitted=False)
            await store.create(new_run("a/2", parent="a", root="a", queue="q", held=True))
            assert (await store.admit("q", now=9)).admitted == ()

    async def test_a_parent_that_waits_for_a_child_elsewhere_makes_room_too(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1))
            await store.put_queue(Queue(name="p", concurrency=1))
            await _parent(store, "a", ["a/1"], queue="q", of="p")
            await _parent(store, "b", ["b/1"], queue="p", of="q")
            assert (await store.admit("q", now=9)).admitted == ("b/1",)
            assert (await store.admit("p", now=9)).admitted == ("a/1",)

    async def test_a_key_whose_runs_all_wait_for_children_lets_one_of_those_in(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency_per_key=1))
            await _parent(store, "a", ["a/1", "a/2"], key="k")
            await _held(store, "other", key="k", priority=3)
            await _held(store, "free", key="f")
            assert (await store.admit("q", now=9)).admitted == ("a/1", "free")
            assert (await store.admit("q", now=9)).admitted == ()
            await _end(store, "a/1", now=9)
            assert (await store.admit("q", now=9)).admitted == ("a/2",)

    async def test_not_even_a_child_goes_in_faster_than_the_rate(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1, rate=1, period=100))
            await _parent(store, "a", ["a/1"], created_at=1000)
            assert await store.admit("q", now=1050) == Admission((), 1100)
            assert (await store.admit("q", now=1100)).admitted == ("a/1",)

    # -- messages -----------------------------------------------------------------------------------------------
    async def test_a_held_run_is_woken_by_its_cancellation_only(self) -> None:
        async with self.driver() as store:
            await store.put_queue(Queue(name="q", concurrency=1))
            await _held(store, "a")
            await _held(store, "b")
            for kind in ("signal", "pause", "state", "child"):
                await store.post(mail("a", kind=kind, at=4))
                row = await row_of(store, "a")
                assert (row.wake_at, row.held_until) == (None, 1)
            await store.post(mail("a", kind="cancel", at=6))
            assert (await row_of(store, "a")).wake_at == 6
            assert (await store.admit("q", now=9)).admitted == ("b",)
            claimed = await store.claim("w1", workflows=["shop"], now=8, limit=9)
            assert [one.row.run_id for one in claimed] == ["a"]
            assert [message.kind for message in claimed[0].messages] == ["signal", "pause", "state", "child", "cancel"]
            await store.append(appended(claimed[0], 2, "x", status="cancelled", finished_at=9))
            row = await row_of(store, "a")
            assert (row.held_until, row.wake_at, row.status) == (None, None, "cancelled")
            assert [(row.waiting, row.active) for row in await store.queues()] == [(0, 1)]

    async def test_a_held_run_given_up_with_an_unseen_message_still_waits_for_its_turn(self) -> None:
        async with self.driver() as store:
            await _held(store, "a")
            await store.post(mail("a", kind="cancel", at=6))
            claimed = await claim_one(store)
            await store.post(mail("a", at=7))
            seen = claimed.messages[-1].id
            await store.append(appended(claimed, 2, "x", status="pending", release=True, seen=seen))
            row = await row_of(store, "a")
            assert (row.held_until, row.wake_at) == (1, None)
            await store.admit("q", now=9)
            assert len((await claim_one(store)).messages) == 2

    async def test_an_unowned_run_that_has_not_begun_takes_another_input_and_another_time(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", wake_at=10))
            await store.post(_input("a", wake_at=30))
            assert (await row_of(store, "a")).wake_at == 30
            await store.post(_input("a", at=12, wake_at=None))
            assert (await row_of(store, "a")).wake_at == 12
            await _held(store, "b", wake_at=10)
            await store.post(_input("b", wake_at=30))
            row = await row_of(store, "b")
            assert (row.wake_at, row.held_until) == (None, 30)
            await store.post(_input("b", wake_at=None))
            assert (await row_of(store, "b")).held_until == 30
            assert await store.admit("q", now=29) == Admission((), 30)

    async def test_inputs_and_signals_posted_at_once_count_in_their_order(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", wake_at=10))
            await asyncio.gather(
                store.post(mail("a", at=3)), store.post(_input("a", wake_at=30)), store.post(mail("a", at=20))
            )
            assert (await row_of(store, "a")).wake_at == 20
            await asyncio.gather(store.post(mail("a", at=3)), store.post(_input("a", wake_at=40)))
            assert (await row_of(store, "a")).wake_at == 40

    async def test_a_dead_drivers_held_run_is_cancelled_by_the_next(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=LEASE)
        await _held(dying, "a")
        await dying.post(mail("a", kind="cancel", at=6))
        await claim_one(dying)
        self.kill(dying)
        async with self.driver("w2", now=20) as store:
            assert (await store.admit("q", now=20)).admitted == ()
            claimed = await claim_one(store, worker="w2", now=20)
            await store.append(appended(claimed, 2, "x", status="cancelled", finished_at=21))
            assert (await row_of(store, "a")).held_until is None

    # -- atomicity ----------------------------------------------------------------------------------------------
    async def test_two_processes_that_admit_at_once_keep_the_limit(self) -> None:
        async with self.client() as store, self.client() as other:
            await store.put_queue(Queue(name="q", concurrency=3))
            for n in range(9):
                await _held(store, f"r{n}")
            clients = (store, other)
            admissions = await asyncio.gather(*(clients[n % 2].admit("q", now=9) for n in range(6)))
            assert sorted(sum((admission.admitted for admission in admissions), ())) == ["r0", "r1", "r2"]

    async def test_nothing_of_a_broken_admission_remains(self) -> None:
        async with self.client() as store:
            await _held(store, "a")
            before = await row_of(store, "a")
            self.fault(store, break_at("rows"))
            with refused(Broken):
                await store.admit("q", now=9)
            self.fault(store, None)
            assert await row_of(store, "a") == before
            assert (await store.admit("q", now=9)).admitted == ("a",)


async def _held(
    store: Store, run_id: str, *, queue: str = "q", key: str = "", wake_at: int = 1, priority: int = 0
) -> RunRow:
    """A run that waits in a queue."""
    return await store.create(
        new_run(run_id, queue=queue, queue_key=key, held=True, wake_at=wake_at, priority=priority)
    )


def _of(parent: str, *, queue: str = "q", key: str = "") -> dict[str, Any]:  # fields of NewRun
    return {"parent": parent, "root": "a", "queue": queue, "queue_key": key, "held": True, "awaited": True}


async def _parent(
    store: Store,
    run_id: str,
    children: Sequence[str],
    *,
    queue: str = "q",
    of: str = "q",
    key: str = "",
    created_at: int = 1,
) -> None:
    """A run that is under way in a queue and waits for children that are held in a queue."""
    await store.create(new_run(run_id, owner="w1", queue=queue, queue_key=key, created_at=created_at))
    await store.append(
        appended(
            run_id,
            2,
            "x",
            status="waiting",
            release=True,
            children=tuple(new_run(child, **_of(run_id, queue=of, key=key)) for child in children),
        )
    )


async def _end(store: Store, run_id: str, *, now: int, admitted: bool = True) -> None:
    """Claim a run that was let in, among others perhaps, and end it."""
    if not admitted:
        await store.post(mail(run_id, kind="cancel", at=now))
    row = await row_of(store, run_id)
    if row.owner is None:
        await store.claim("w1", workflows=["shop"], now=now, limit=9999)
    row = await row_of(store, run_id)
    await ended(store, run_id, epoch=row.epoch, at=now)


def _input(run_id: str, *, at: int = 5, wake_at: int | None) -> NewMessage:
    return NewMessage(run_id=run_id, kind="input", name="", body=b"2", at=at, wake_at=wake_at)
