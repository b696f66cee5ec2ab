"""Is a run driven by one worker at a time, taken over when that one is gone, and given out in the right order?"""

from __future__ import annotations

import asyncio

from stepwell.errors import Fenced, StoreBusy
from stepwell.testing.conformance.kit import LEASE, Kit, appended, claim_one, mail, new_run, notes, refused


class DrivingTests(Kit):
    """Driving, claiming, taking over."""

    async def test_due_runs_are_claimed_by_priority_then_by_time(self) -> None:
        async with self.driver() as store:
            for name, priority, wake_at in (("d", 0, 3), ("a", 5, 9), ("c", 0, 2), ("b", 5, 10), ("e", -1, 1)):
                await store.create(new_run(name, priority=priority, wake_at=wake_at))
            claimed = await store.claim("w1", workflows=["shop"], now=20, limit=4)
            assert [one.row.run_id for one in claimed] == ["a", "b", "c", "d"]
            assert [one.row.run_id for one in await store.claim("w1", workflows=["shop"], now=20, limit=4)] == ["e"]

    async def test_the_order_of_claims_goes_across_workflows(self) -> None:
        async with self.driver() as store:
            for n, workflow in enumerate(["x", "y", "x", "y", "x"]):
                await store.create(new_run(f"r{n}", workflow=workflow, wake_at=10 - n))
            claimed = await store.claim("w1", workflows=["x", "y"], now=20, limit=3)
            assert [one.row.run_id for one in claimed] == ["r4", "r3", "r2"]

    async def test_a_claim_gives_the_run_to_the_worker_under_a_new_epoch(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            claimed = await claim_one(store)
            row = claimed.row
            assert (row.owner, row.epoch, row.claims, row.wake_at) == ("w1", 1, 1, None)
            assert row == await store.get("a")

    async def test_claims_count_the_deaths_of_drivers_until_the_journal_grows(self) -> None:
        for n in (1, 2, 3):
            dying = self.make_store()
            await dying.open()
            await dying.drive("w1", now=0, lease=LEASE)
            if n == 1:
                await dying.create(new_run("a"))
            claimed = await claim_one(dying)
            assert (claimed.row.claims, claimed.row.epoch) == (n, n)
            self.kill(dying)
        async with self.driver("w2") as store:
            claimed = await claim_one(store, worker="w2")
            assert claimed.row.claims == 4
            await store.append(appended(claimed, 2, "x"))
            row = await store.get("a")
            assert row is not None and row.claims == 0

    async def test_claims_that_end_in_a_release_do_not_count(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            for _ in (1, 2, 3):
                claimed = await claim_one(store)
                assert claimed.row.claims == 1
                await store.append(appended(claimed, 2, status="waiting", wake_at=1, release=True))

    async def test_only_due_runs_of_the_named_workflows_are_claimed(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("due", wake_at=10))
            await store.create(new_run("later", wake_at=11))
            await store.create(new_run("other", workflow="mail", wake_at=1))
            claimed = await store.claim("w1", workflows=["shop"], now=10, limit=9)
            assert [one.row.run_id for one in claimed] == ["due"]
            assert await store.claim("w1", workflows=[], now=99, limit=9) == []
            assert await store.claim("w1", workflows=["shop"], now=99, limit=0) == []

    async def test_many_due_runs_are_claimed_once_each(self) -> None:
        async with self.driver() as store:
            await asyncio.gather(*(store.create(new_run(f"r{n}", wake_at=n)) for n in range(150)))
            names = []
            for _ in range(4):
                claimed = await store.claim("w1", workflows=["shop"], now=999, limit=50)
                names += [one.row.run_id for one in claimed]
            assert names == [f"r{n}" for n in range(150)]

    async def test_claimed_runs_come_with_their_messages_in_order(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            posted = [await store.post(mail("a", f"n{n}")) for n in range(3)]
            assert list((await claim_one(store)).messages) == posted

    async def test_the_next_wake_is_the_earliest_of_unowned_runs_of_the_named_workflows(self) -> None:
        async with self.driver() as store:
            assert await store.next_wake(workflows=["shop"]) is None
            await store.create(new_run("owned", owner="w1"))
            await store.create(new_run("a", wake_at=30))
            await store.create(new_run("b", wake_at=20, priority=-3))
            await store.create(new_run("c", wake_at=10, workflow="mail"))
            assert await store.next_wake(workflows=["shop"]) == 20
            assert await store.next_wake(workflows=["shop", "mail"]) == 10
            assert await store.next_wake(workflows=[]) is None

    async def test_a_client_that_does_not_drive_claims_nothing(self) -> None:
        async with self.driver() as store, self.client() as other:
            await store.create(new_run("a"))
            for worker in ("w1", "w2"):
                with refused(Fenced):
                    await other.claim(worker, workflows=["shop"], now=10, limit=9)

    async def test_a_second_driver_is_refused_while_the_first_is_alive(self) -> None:
        async with self.driver(now=0) as store, self.client() as other:
            await store.create(new_run("a", owner="w1"))
            with refused(StoreBusy, "w1"):
                await other.drive("w2", now=LEASE - 1, lease=LEASE)
            await store.append(appended("a", 2, "x"))
            assert await store.renew("w1", now=LEASE, lease=LEASE)
            with refused(StoreBusy):
                await other.drive("w2", now=LEASE + 1, lease=LEASE)

    async def test_driving_twice_with_one_object_keeps_its_runs(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.drive("w1", now=5, lease=LEASE)
            await store.append(appended("a", 2, "x"))
            assert notes(await store.read("a")) == ["x"]

    async def test_a_driver_that_closed_is_followed_at_once(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
        async with self.driver("w2", now=3) as other:
            claimed = await claim_one(other, worker="w2", now=3)
            assert (claimed.row.run_id, claimed.row.epoch, claimed.row.owner) == ("a", 2, "w2")

    async def test_a_driver_that_died_is_followed_at_once(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=LEASE)
        await dying.create(new_run("a", owner="w1"))
        await dying.append(appended("a", 2, "kept"))
        self.kill(dying)
        async with self.driver("w2", now=3) as store:
            row = await store.get("a")
            assert row is not None and (row.owner, row.wake_at) == (None, 3)
            claimed = await claim_one(store, worker="w2", now=3)
            await store.append(appended(claimed, 3, "more"))
            assert notes(await store.read("a")) == ["kept", "more"]

    async def test_a_worker_that_died_is_followed_by_one_of_the_same_name(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=LEASE)
        await dying.create(new_run("a", owner="w1"))
        self.kill(dying)
        async with self.driver("w1", now=3) as store:
            assert (await claim_one(store)).row.epoch == 2

    async def test_a_frozen_driver_is_taken_over_from_when_its_lease_has_passed(self) -> None:
        async with self.driver("w1", now=0) as frozen, self.client() as store:
            for name in ("a", "b"):
                await frozen.create(new_run(name, owner="w1"))
            await store.drive("w2", now=LEASE + 1, lease=LEASE)
            claimed = await store.claim("w2", workflows=["shop"], now=LEASE + 1, limit=1)
            assert claimed[0].row.epoch == 2
            await store.append(appended(claimed[0], 2, "mine"))
            # It wakes up: what it holds is not its own any more, claimed again already or not.
            for name in ("a", "b"):
                with refused(Fenced):
                    await frozen.append(appended(name, 2, "late"))
            with refused(Fenced):
                await frozen.create(new_run("c", owner="w1"))
            with refused(Fenced):
                await frozen.claim("w1", workflows=["shop"], now=LEASE + 2, limit=9)
            assert not await frozen.renew("w1", now=LEASE + 2, lease=LEASE)
            assert notes(await store.read("a")) == ["mine"]
            assert notes(await store.read("b")) == []
            assert await store.get("c") is None
            assert await store.renew("w2", now=LEASE + 3, lease=LEASE)

    async def test_a_driver_that_was_taken_over_from_may_drive_again_later(self) -> None:
        async with self.driver("w1", now=0) as first:
            async with self.client() as second:
                await second.drive("w2", now=LEASE + 1, lease=LEASE)
                assert not await first.renew("w1", now=LEASE + 2, lease=LEASE)
                with refused(StoreBusy):
                    await first.drive("w1", now=LEASE + 2, lease=LEASE)
            await first.drive("w1", now=LEASE + 3, lease=LEASE)
            assert await first.renew("w1", now=LEASE + 4, lease=LEASE)

    async def test_another_name_does_not_renew(self) -> None:
        async with self.driver("w1") as store:
            assert not await store.renew("w2", now=1, lease=LEASE)

    async def test_a_run_of_a_dead_driver_is_due_even_though_it_slept(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=LEASE)
        await dying.create(new_run("timer", owner="w1"))
        await dying.append(appended("timer", 2, "x", status="waiting", wake_at=9_000))
        await dying.create(new_run("free", wake_at=5_000))
        self.kill(dying)
        async with self.driver("w2", now=3) as store:
            timer, free = await store.get("timer"), await store.get("free")
            assert timer is not None and free is not None
            assert (timer.owner, timer.wake_at, free.wake_at) == (None, 3, 5_000)
