"""Is what was put on a shelf there until it is cleared, or its run is deleted?"""

from __future__ import annotations

import asyncio

from stepwell.errors import Fenced
from stepwell.model.shelf import Clear, Put
from stepwell.stores.protocol import Store
from stepwell.stores.shelves import RunShelf
from stepwell.testing.conformance.kit import LEASE, Broken, Kit, break_at, ended, new_run, refused


class ShelfTests(Kit):
    """Putting, finding, clearing, deleting with the run."""

    async def test_what_is_put_is_found_by_every_client_and_a_later_value_takes_its_place(self) -> None:
        async with self.client() as store, self.client() as other:
            assert await store.shelved("a", "") == []
            await store.shelve([Put("a", "k", b"one"), Put("a", "l", b""), Put("b", "k", b"other")])
            assert await other.shelved("a", "") == [("k", b"one"), ("l", b"")]
            await other.shelve([Put("a", "k", b"two")])
            assert await store.shelved_at("a", ["l", "k", "none"]) == {"k": b"two", "l": b""}
            assert await store.shelved_at("a", []) == {}
            assert await store.shelved("b", "") == [("k", b"other")]

    async def test_what_is_put_only_if_new_leaves_what_stands_there(self) -> None:
        async with self.client() as store:
            await store.shelve([Put("a", "k", b"one", if_new=True), Put("a", "k", b"two", if_new=True)])
            await store.shelve([Put("a", "k", b"three", if_new=True), Put("a", "l", b"new", if_new=True)])
            assert await store.shelved("a", "") == [("k", b"one"), ("l", b"new")]

    async def test_keys_are_found_by_their_beginning_in_order_and_in_reverse(self) -> None:
        async with self.client() as store:
            keys = ["a", "b/1", "b/10", "b/2", "b/é", "b/\U0001f600", "b%", "c", "b"]
            await store.shelve([Put("o", key, key.encode()) for key in keys])
            found = ["b/1", "b/10", "b/2", "b/é", "b/\U0001f600"]
            assert [key for key, _ in await store.shelved("o", "b/")] == found
            assert [key for key, _ in await store.shelved("o", "b/", last_first=True)] == found[::-1]
            assert [key for key, _ in await store.shelved("o", "b/", last_first=True, limit=2)] == found[:2:-1]
            assert await store.shelved("o", "", limit=0) == []

    async def test_what_is_cleared_is_gone_and_changes_are_carried_out_in_their_order(self) -> None:
        async with self.client() as store:
            await store.shelve(
                [Put("a", "x/1", b"1"), Put("a", "x/2", b"2"), Put("a", "y", b"3"), Put("b", "x/1", b"4")]
            )
            await store.shelve([Clear("a", "x/"), Put("a", "x/2", b"5"), Clear("nobody")])
            assert await store.shelved("a", "") == [("x/2", b"5"), ("y", b"3")]
            await store.shelve([Put("a", "z", b"6"), Clear("a")])
            assert await store.shelved("a", "") == []
            assert await store.shelved("b", "") == [("x/1", b"4")]

    async def test_who_has_something_on_a_shelf_is_listed_in_order(self) -> None:
        async with self.client() as store:
            await store.shelve([Put(owner, key, b"") for owner in ("c", "a", "b") for key in ("k", "l")])
            assert await store.shelf_owners() == ["a", "b", "c"]
            assert await store.shelf_owners(after="a", limit=1) == ["b"]
            await store.shelve([Clear("b")])
            assert await store.shelf_owners() == ["a", "c"]

    async def test_only_the_owner_of_the_run_writes_under_its_fence(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("r", owner="w1"))
            shelf = RunShelf(store, "r", 1)
            await shelf.shelve([Put("r", "k", b"mine")])
            with refused(Fenced, "r", "2"):
                await RunShelf(store, "r", 2).shelve([Put("r", "k", b"late")])
            async with self.client() as other:
                with refused(Fenced, "r"):
                    await RunShelf(other, "r", 1).shelve([Put("r", "k", b"not mine")])
            assert await shelf.shelved("r", "") == [("k", b"mine")]
            assert await shelf.shelved_at("r", ["k"]) == {"k": b"mine"}
            assert await shelf.shelf_owners() == ["r"]

    async def test_what_a_worker_that_lost_its_runs_puts_is_refused(self) -> None:
        old = self.make_store()
        await old.open()
        await old.drive("w1", now=0, lease=LEASE)
        await old.create(new_run("r", owner="w1"))
        self.kill(old)
        async with self.driver("w2", now=2 * LEASE) as store:
            await store.claim("w2", workflows=["shop"], now=2 * LEASE, limit=1)
            with refused(Fenced):
                await store.shelve([Put("r", "k", b"old")], fence=("r", 1))
            await store.shelve([Put("r", "k", b"new")], fence=("r", 2))

    async def test_a_run_takes_its_shelf_along_when_it_is_deleted(self) -> None:
        async with self.driver() as store:
            for run_id in ("r", "s"):
                await store.create(new_run(run_id, owner="w1"))
                await store.shelve([Put(run_id, "k", b"v")], fence=(run_id, 1))
            await store.shelve([Put("nobody", "k", b"v")])
            await ended(store, "r")
            assert await store.delete(finished_before=100) == 1
            assert await store.shelf_owners() == ["nobody", "s"]

    async def test_changes_of_one_transaction_that_breaks_leave_nothing(self) -> None:
        async with self.client() as store:
            await store.shelve([Put("a", "k", b"1")])
            for point in ("rows", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.shelve([Put("a", "k", b"2"), Clear("a"), Put("a", "l", b"2")])
                self.fault(store, None)
                assert await store.shelved("a", "") == [("k", b"1")]

    async def test_many_at_once_are_all_there(self) -> None:
        async with self.client() as store:
            await asyncio.gather(*(_put_some(store, f"o{number % 3}", number) for number in range(60)))
            assert [len(await store.shelved(owner, "")) for owner in await store.shelf_owners()] == [200, 200, 200]


async def _put_some(store: Store, owner: str, number: int) -> None:
    await store.shelve([Put(owner, f"{number}/{part}", bytes([part])) for part in range(10)])
