"""Is a run created once under its id and its unique key, and with all that it was asked to begin with?"""

from __future__ import annotations

import asyncio

from stepwell.errors import Fenced
from stepwell.model.lifecycle import Status
from stepwell.stores.protocol import Filter
from stepwell.testing.conformance.kit import (
    Broken,
    Kit,
    appended,
    asked,
    break_at,
    claim_one,
    ended,
    happened,
    mail,
    new_run,
    note,
    refused,
    row_of,
)


class CreatingTests(Kit):
    """Unique keys, and runs that do not begin at once or have ended already."""

    async def test_a_run_without_a_time_is_not_claimable_before_a_message_comes(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", wake_at=None))
            assert await store.next_wake(workflows=["shop"]) is None
            assert await store.claim("w1", workflows=["shop"], now=10**15, limit=9) == []
            await store.post(mail("a", at=5))
            assert (await claim_one(store)).row.run_id == "a"

    async def test_a_run_may_be_created_as_it_ended_elsewhere(self) -> None:
        async with self.driver() as store:
            row = await store.create(new_run("a", status="completed", finished_at=7, entries=[note("x")]))
            assert (row.status, row.finished_at, row.wake_at, row.owner) == ("completed", 7, None, None)
            assert row == await store.get("a")
            assert await store.claim("w1", workflows=["shop"], now=99, limit=9) == []
            assert await store.count() == {"completed": 1}
            assert await store.delete(finished_before=8) == 1

    async def test_a_run_may_be_created_paused_or_waiting(self) -> None:
        async with self.driver() as store:
            statuses: tuple[Status, ...] = ("paused", "waiting")
            for status in statuses:
                row = await store.create(new_run(status, status=status, wake_at=None))
                assert (row.status, row.wake_at) == (status, None)
            await store.post(mail("paused", kind="resume"))
            claimed = await claim_one(store)
            assert (claimed.row.run_id, claimed.row.status) == ("paused", "paused")
            await store.append(appended(claimed, 2, "x", status="paused"))

    async def test_a_run_that_began_elsewhere_brings_its_open_waits_and_messages(self) -> None:
        async with self.driver() as store:
            run = new_run(
                "a",
                status="waiting",
                wake_at=90,
                opened=(asked("q1"), asked("t1", kind="event", name="orders")),
                messages=(
                    mail("a", "first", at=40),
                    mail("a", "q1", kind="answer", at=50),
                    mail("a", "gone", kind="answer", at=4),
                    mail("a", "", kind="retry", at=5),
                    mail("a", "again", key="k", at=60),
                ),
            )
            row = await store.create(run)
            assert row == await store.get("a")
            assert row.wake_at == 40
            assert [wait.id for wait in await store.open_waits("input")] == ["q1"]
            assert [message.name for message in await store.mailbox("a")] == ["first", "q1", "again"]
            assert await store.post(mail("a", "again", key="k")) is None
            await store.create(run)
            assert len(await store.mailbox("a")) == 3
            await store.publish(happened("e1", at=7))
            assert (await row_of(store, "a")).wake_at == 7

    async def test_a_run_that_ended_elsewhere_has_neither_open_waits_nor_messages(self) -> None:
        async with self.client() as store:
            run = new_run("a", status="failed", finished_at=7, opened=(asked("q1"),), messages=(mail("a"),))
            row = await store.create(run)
            assert (row.status, row.wake_at) == ("failed", None)
            assert await store.open_waits("input") == []
            assert await store.mailbox("a") == []
            assert all(finding.ok for finding in await store.check())

    async def test_a_run_that_is_not_created_brings_nothing(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a", unique="k"))
            await store.create(new_run("a", opened=(asked("q1"),), messages=(mail("a"),)))
            await store.create(new_run("b", unique="k", opened=(asked("q2", "b"),), messages=(mail("b"),)))
            assert await store.open_waits("input") == []
            assert await store.mailbox("a") == []
            self.fault(store, break_at("rows"))
            with refused(Broken):
                await store.create(new_run("c", opened=(asked("q3", "c"),), messages=(mail("c"),)))
            self.fault(store, None)
            assert await store.open_waits("input") == []

    # -- unique keys --------------------------------------------------------------------------------------------
    async def test_while_a_run_of_a_key_has_not_ended_its_row_is_returned_instead_of_a_second(self) -> None:
        async with self.driver() as store, self.client() as other:
            first = await store.create(new_run("a", owner="w1", unique="k"))
            assert first.run_id == "a"
            assert (await other.create(new_run("b", unique="k"))).run_id == "a"
            assert await store.get("b") is None
            assert (await store.create(new_run("c", unique="other"))).run_id == "c"
            assert (await store.create(new_run("d"))).run_id == "d"
            for status in ("running", "waiting", "paused", "stuck"):
                seq = (await row_of(store, "a")).next_seq
                await store.append(appended("a", seq, "x", status=status))
                again = await other.create(new_run("b", unique="k"))
                assert (again.run_id, again.status) == ("a", status)
            await ended(store, "a")
            assert (await other.create(new_run("b", unique="k"))).run_id == "b"
            assert (await store.create(new_run("e", unique="k"))).run_id == "b"

    async def test_a_key_that_is_kept_until_begun_is_free_when_its_run_is_no_longer_pending(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1", unique="k", unique_until="begun"))
            assert (await store.create(new_run("b", unique="k", unique_until="begun"))).run_id == "a"
            await store.append(appended("a", 2, "x", status="running"))
            assert (await store.create(new_run("b", unique="k", unique_until="begun"))).run_id == "b"
            assert (await store.create(new_run("c", unique="k"))).run_id == "b"

    async def test_creating_the_run_that_has_the_key_again_returns_its_row(self) -> None:
        async with self.client() as store:
            row = await store.create(new_run("a", unique="k"))
            assert await store.create(new_run("a", unique="k")) == row
            assert await store.create(new_run("a", unique="k", takes_over=True)) == row
            assert (await store.create(new_run("b", unique="k"))).run_id == "a"

    async def test_many_created_at_once_under_one_key_are_one_run(self) -> None:
        async with self.client() as store, self.client() as other:
            clients = (store, other)
            rows = await asyncio.gather(*(clients[n % 2].create(new_run(f"r{n}", unique="k")) for n in range(12)))
            assert len({row.run_id for row in rows}) == 1
            assert await store.count() == {"pending": 1}

    async def test_a_run_that_takes_over_frees_the_key_for_itself(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1", unique="k"))
            assert (await store.create(new_run("b", unique="k", takes_over=True))).run_id == "b"
            assert (await store.create(new_run("c", unique="k"))).run_id == "b"
            await ended(store, "a")
            assert (await store.create(new_run("c", unique="k"))).run_id == "b"
            assert (await row_of(store, "b")).status == "pending"

    async def test_of_many_that_take_over_at_once_the_last_has_the_key(self) -> None:
        async with self.client() as store:
            news = [new_run(f"r{n}", unique="k", takes_over=n != 3) for n in range(6)]
            rows = await asyncio.gather(*map(store.create, news))
            assert [row.run_id for row in rows] == ["r0", "r1", "r2", "r2", "r4", "r5"]
            assert (await store.create(new_run("x", unique="k"))).run_id == "r5"

    async def test_a_key_is_free_right_behind_the_append_that_ends_its_run(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1", unique="k"))
            ending = store.append(appended("a", 2, "x", status="completed", finished_at=4))
            creating = store.create(new_run("b", unique="k"))
            await ending
            assert (await creating).run_id == "b"

    async def test_a_retried_run_keeps_its_key_again(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1", unique="k"))
            await store.append(appended("a", 2, "x", status="failed", finished_at=4))
            await store.post(mail("a", kind="retry"))
            claimed = await claim_one(store)
            await store.append(appended(claimed, 3, "y", status="running"))
            assert (await store.create(new_run("b", unique="k"))).run_id == "a"

    async def test_a_deleted_run_frees_its_key_for_good(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1", unique="k"))
            await ended(store, "a")
            assert await store.delete(finished_before=100) == 1
            assert (await store.create(new_run("a", unique="k"))).run_id == "a"
            assert (await store.create(new_run("b", unique="k"))).run_id == "a"

    async def test_a_child_whose_key_is_taken_is_not_created(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.create(new_run("other", unique="k"))
            children = (new_run("a/1", root="a", parent="a", unique="k"), new_run("a/2", root="a", parent="a"))
            await store.append(appended("a", 2, "x", children=children))
            assert await store.get("a/1") is None
            assert await store.get("a/2") is not None

    async def test_a_broken_takeover_leaves_the_key_where_it_was(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a", unique="k"))
            self.fault(store, break_at("rows"))
            with refused(Broken):
                await store.create(new_run("b", unique="k", takes_over=True))
            self.fault(store, None)
            assert (await store.create(new_run("c", unique="k"))).run_id == "a"

    async def test_a_run_for_a_worker_that_does_not_drive_takes_no_key(self) -> None:
        async with self.client() as store:
            with refused(Fenced):
                await store.create(new_run("a", owner="w1", unique="k"))
            assert (await store.create(new_run("b", unique="k"))).run_id == "b"

    async def test_runs_are_listed_by_queue(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a", queue="mail", queue_key="x"))
            await store.create(new_run("b", queue="mail", held=True))
            await store.create(new_run("c", queue="print"))
            await store.create(new_run("d"))
            assert [row.run_id for row in await store.find(Filter(queue="mail"))] == ["b", "a"]
            assert [row.run_id for row in await store.find(Filter(queue="none"))] == []
            row = await row_of(store, "a")
            assert (row.queue, row.queue_key, row.held_until) == ("mail", "x", None)
