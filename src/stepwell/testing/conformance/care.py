"""Does a store open and close as it should, forget whole trees, and give good copies?"""

from __future__ import annotations

import unittest

from stepwell.errors import CorruptJournal, RunNotFound, StepwellError, StoreUnusable
from stepwell.model.entries import RunCompleted
from stepwell.model.lifecycle import Status
from stepwell.stores.protocol import Filter, Store
from stepwell.stores.tables import Firing, NewDefinition, Queue, TriggerRow
from stepwell.testing.conformance.kit import Kit, appended, asked, happened, mail, new_run, note, refused


class CareTests(Kit):
    """Opening, closing, deleting, copying, checking."""

    async def test_opening_and_closing_twice_is_the_same_as_once(self) -> None:
        store = self.make_store()
        await store.open()
        await store.open()
        await store.create(new_run("a"))
        await store.close()
        await store.close()

    async def test_a_store_that_was_never_opened_can_be_closed(self) -> None:
        await self.make_store().close()

    async def test_a_store_can_be_opened_again(self) -> None:
        store = self.make_store()
        for n in (1, 2):
            await store.open()
            await store.create(new_run(f"r{n}"))
            await store.close()
        async with self.client() as other:
            assert await other.count() == {"pending": 2}

    async def test_a_closed_store_refuses(self) -> None:
        store = self.make_store()
        await store.open()
        await store.close()
        with refused(StoreUnusable):
            await store.get("a")
        with refused(StepwellError):
            await store.create(new_run("a"))

    async def test_closing_finishes_what_was_accepted(self) -> None:
        store = self.make_store()
        await store.open()
        futures = [store.create(new_run(f"r{n}")) for n in range(50)]
        await store.close()
        assert [(await future).run_id for future in futures] == [f"r{n}" for n in range(50)]
        async with self.client() as other:
            assert await other.count() == {"pending": 50}

    async def test_ended_runs_are_deleted_oldest_first_and_only_so_many(self) -> None:
        async with self.driver() as store:
            for n in range(6):
                await _ended(store, f"r{n}", at=100 + n)
            await store.create(new_run("live"))
            assert await store.delete(finished_before=104, limit=3) == 3
            assert {row.run_id for row in await store.find(Filter())} == {"r3", "r4", "r5", "live"}
            assert await store.delete(finished_before=104, limit=3) == 1
            assert await store.delete(finished_before=104, limit=3) == 0
            with refused(RunNotFound):
                await store.read("r0")
            assert len(await store.read("r4")) == 2

    async def test_a_tree_is_deleted_whole_or_not_at_all(self) -> None:
        async with self.driver() as store:
            await _ended(store, "top", at=10)
            await _ended(store, "top/1", at=9, root="top")
            await store.create(new_run("top/2", root="top", parent="top", owner="w1"))
            assert await store.delete(finished_before=100) == 0
            await store.append(appended("top/2", 2, "x", status="completed", finished_at=200))
            assert await store.delete(finished_before=100) == 0
            assert await store.delete(finished_before=201, limit=1) == 3
            assert await store.find(Filter()) == []

    async def test_a_run_about_to_be_retried_is_not_deleted(self) -> None:
        async with self.driver() as store:
            await _ended(store, "a", at=10, status="failed")
            await store.post(mail("a", kind="retry", at=11))
            assert await store.delete(finished_before=100) == 0

    async def test_payloads_go_with_the_last_run_that_uses_them(self) -> None:
        async with self.driver() as store:
            await _ended(store, "a", at=10, blob="both")
            await _ended(store, "b", at=20, blob="both")
            await store.delete(finished_before=15)
            assert await store.blob("both") == b"large"
            await store.delete(finished_before=25)
            with refused(CorruptJournal):
                await store.blob("both")

    async def test_a_deleted_id_is_free_again_and_knows_nothing_of_the_past(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            message = await store.post(mail("a", key="k"))
            assert message is not None
            await store.append(appended("a", 2, "x", status="completed", finished_at=3, consumed=(message.id,)))
            assert await store.delete(finished_before=100) == 1
            await store.create(new_run("a", owner="w1"))
            assert len(await store.read("a")) == 1
            assert await store.mailbox("a") == []
            assert await store.post(mail("a", key="k")) is not None
            await store.append(appended("a", 2, "y"))
            assert all(finding.ok for finding in await store.check())

    async def test_a_backup_holds_the_same(self) -> None:
        if not self.backs_up:
            raise unittest.SkipTest("this store has nothing to copy")
        async with self.driver() as store:
            for n in range(20):
                await store.create(new_run(f"r{n}", owner="w1", labels={"n": str(n)}, entries=[note("x")]))
            await store.post(mail("r3"))
            await store.append(
                appended("r4", 3, "y", blobs={"d": b"large"}, opened=(asked("q1", "r4"),), events=(happened("e1"),))
            )
            await store.put_queue(Queue(name="q", concurrency=3))
            await store.put_trigger(TriggerRow(name="t", kind="schedule", workflow="shop", spec=b"{}"))
            await store.advance("t", seen=0, cursor=4, next_at=9, firings=[Firing("t", "k", 3, 4)])
            await store.put_definition(NewDefinition(name="g", digest="d", body=b"{}", at=4, label="1"), activate=True)
            await store.put_cached("c", b"kept", at=4)
            place = self.folder / "copy"
            await store.backup(place)
            with refused(StoreUnusable, str(place)):
                await store.backup(place)
            with refused(StoreUnusable, "no-such-folder"):
                await store.backup(self.folder / "no-such-folder" / "copy")
            await store.append(appended("r5", 3, "after the copy"))
            copy = self.open_copy(place)
            await copy.open(create=False)
            try:
                await copy.drive("other", now=0, lease=1)
                mine = {row.run_id: row.labels for row in await store.find(Filter())}
                assert {row.run_id: row.labels for row in await copy.find(Filter())} == mine
                assert await copy.read("r4") == await store.read("r4")
                assert len(await copy.read("r5")) == 2
                assert await copy.mailbox("r3") == await store.mailbox("r3")
                assert await copy.blob("d") == b"large"
                assert await copy.open_waits("input") == await store.open_waits("input") != []
                assert await copy.events() == await store.events() != []
                assert await copy.queues() == await store.queues() != []
                assert await copy.triggers() == await store.triggers() != []
                assert await copy.firings("t") == await store.firings("t") != []
                assert await copy.definition("g", "1") == await store.definition("g") is not None
                assert await copy.cached("c", now=9) == b"kept"
            finally:
                await copy.close()

    async def test_a_good_store_passes_its_check(self) -> None:
        async with self.driver() as store:
            await _ended(store, "a", at=10, blob="d")
            await store.create(new_run("b", owner="w1"))
            await store.post(mail("b"))
            findings = await store.check()
            assert [finding for finding in findings if not finding.ok] == []
            assert {"journals"} <= {finding.what for finding in findings}


async def _ended(
    store: Store, run_id: str, *, at: int, root: str = "", blob: str = "", status: Status = "completed"
) -> None:
    await store.create(new_run(run_id, owner="w1", root=root, parent=root or None))
    entries = [RunCompleted(at=at, output_blob=blob)] if blob else [note("x")]
    blobs = {blob: b"large"} if blob else {}
    await store.append(appended(run_id, 2, status=status, finished_at=at, at=at, entries=entries, blobs=blobs))
