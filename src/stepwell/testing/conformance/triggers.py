"""Does a trigger fire each occasion once, however many processes look after it?"""

from __future__ import annotations

import asyncio

import msgspec

from stepwell.stores.protocol import Store
from stepwell.stores.tables import Firing, TriggerRow
from stepwell.testing.conformance.kit import Broken, Kit, break_at, new_run, refused, row_of


class TriggerTests(Kit):
    """Putting, removing, moving on."""

    async def test_a_trigger_is_there_as_it_was_put(self) -> None:
        async with self.client() as store, self.client() as other:
            assert await store.triggers() == []
            rows = [_trigger("b"), _trigger("a", paused=True, next_at=None, by="ann", options=b'{"queue":"q"}')]
            for row in rows:
                await store.put_trigger(row)
            assert await other.triggers() == [rows[1], rows[0]]

    async def test_a_trigger_that_is_put_again_is_replaced_but_for_its_past(self) -> None:
        async with self.client() as store:
            await store.put_trigger(_trigger("a", cursor=5))
            await store.advance("a", seen=5, cursor=9, next_at=20, firings=[_firing("k1")])
            changed = _trigger("a", workflow="mail", spec=b'{"every":2}', cursor=0, next_at=30, created_at=99, by="bob")
            await store.put_trigger(changed)
            assert await store.triggers() == [msgspec.structs.replace(changed, cursor=9, created_at=1)]
            assert [firing.key for firing in await store.firings("a")] == ["k1"]

    async def test_advancing_moves_the_cursor_records_firings_and_creates_runs(self) -> None:
        async with self.driver() as store:
            await store.put_trigger(_trigger("a"))
            firings = [_firing("k1", run_id="r1"), _firing("k2", note="the last one is still under way")]
            runs = [new_run("r1"), new_run("r2", owner="w1")]
            assert await store.advance("a", seen=0, cursor=10, next_at=20, firings=firings, runs=runs)
            [row] = await store.triggers()
            assert (row.cursor, row.next_at) == (10, 20)
            assert await store.firings("a") == firings[::-1]
            assert (await row_of(store, "r1")).wake_at == 1
            assert (await row_of(store, "r2")).owner == "w1"

    async def test_a_cursor_that_another_process_moved_is_left_alone(self) -> None:
        async with self.client() as store, self.client() as other:
            await store.put_trigger(_trigger("a"))
            assert await other.advance("a", seen=0, cursor=10, next_at=20, firings=[_firing("k1")])
            assert not await store.advance(
                "a", seen=0, cursor=11, next_at=21, firings=[_firing("k2")], runs=[new_run("r1")]
            )
            [row] = await store.triggers()
            assert (row.cursor, row.next_at) == (10, 20)
            assert [firing.key for firing in await store.firings("a")] == ["k1"]
            assert await store.get("r1") is None

    async def test_of_many_that_advance_at_once_one_succeeds(self) -> None:
        async with self.client() as store, self.client() as other:
            await store.put_trigger(_trigger("a"))
            clients = (store, other)
            done = await asyncio.gather(
                *(
                    clients[n % 2].advance("a", seen=0, cursor=1, next_at=None, runs=[new_run(f"r{n}")])
                    for n in range(8)
                )
            )
            assert done.count(True) == 1
            assert await store.count() == {"pending": 1}

    async def test_a_trigger_that_is_not_there_does_not_advance(self) -> None:
        async with self.client() as store:
            assert not await store.advance("a", seen=0, cursor=1, next_at=None, runs=[new_run("r1")])
            assert await store.get("r1") is None
            assert await store.firings("a") == []

    async def test_an_occasion_that_is_recorded_is_left_alone_as_is_a_run_that_exists(self) -> None:
        async with self.client() as store:
            await store.put_trigger(_trigger("a"))
            await store.create(new_run("r1", labels={"from": "before"}))
            await store.advance("a", seen=0, cursor=1, next_at=2, firings=[_firing("k1", note="first")])
            await store.advance(
                "a",
                seen=1,
                cursor=2,
                next_at=3,
                firings=[_firing("k1", note="second"), _firing("k2")],
                runs=[new_run("r1"), new_run("r2")],
            )
            assert [(firing.key, firing.note) for firing in await store.firings("a")] == [("k2", ""), ("k1", "first")]
            assert (await row_of(store, "r1")).labels == {"from": "before"}
            assert await store.get("r2") is not None

    async def test_a_run_whose_unique_key_is_taken_is_not_created(self) -> None:
        async with self.client() as store:
            await store.put_trigger(_trigger("a"))
            await store.create(new_run("other", unique="k"))
            assert await store.advance("a", seen=0, cursor=1, next_at=2, runs=[new_run("r1", unique="k")])
            assert await store.get("r1") is None

    async def test_firings_are_of_their_trigger_newest_first_and_so_many(self) -> None:
        async with self.client() as store:
            for name in "ab":
                await store.put_trigger(_trigger(name))
                await _fires(store, name, 5)
            assert [firing.key for firing in await store.firings("a", limit=2)] == ["a4", "a3"]
            assert len(await store.firings("b")) == 5
            assert await store.firings("a", limit=0) == []
            assert await store.firings("none") == []

    async def test_a_removed_trigger_takes_its_firings_with_it(self) -> None:
        async with self.client() as store:
            for name in "ab":
                await store.put_trigger(_trigger(name))
                await _fires(store, name, 2)
            assert await store.remove_trigger("a")
            assert not await store.remove_trigger("a")
            assert [row.name for row in await store.triggers()] == ["b"]
            assert await store.firings("a") == []
            assert len(await store.firings("b")) == 2
            await store.put_trigger(_trigger("a", created_at=50))
            assert (await store.triggers())[0].created_at == 50
            assert await store.firings("a") == []

    async def test_nothing_of_a_broken_advance_remains(self) -> None:
        async with self.client() as store:
            await store.put_trigger(_trigger("a"))
            before = await store.triggers()
            for point in ("rows", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.advance("a", seen=0, cursor=1, next_at=2, firings=[_firing("k1")], runs=[new_run("r1")])
                self.fault(store, None)
                assert await store.triggers() == before
                assert await store.firings("a") == []
                assert await store.get("r1") is None
            assert await store.advance("a", seen=0, cursor=1, next_at=2, firings=[_firing("k1")], runs=[new_run("r1")])


def _trigger(name: str, **more: object) -> TriggerRow:
    row = TriggerRow(name=name, kind="schedule", workflow="shop", spec=b'{"every":1}', next_at=10, created_at=1)
    return msgspec.structs.replace(row, **more)


def _firing(key: str, *, trigger: str = "a", run_id: str = "", note: str = "") -> Firing:
    return Firing(trigger=trigger, key=key, occasion=10, at=11, run_id=run_id, note=note)


async def _fires(store: Store, name: str, times: int) -> None:
    for n in range(times):
        await store.advance(name, seen=n, cursor=n + 1, next_at=None, firings=[_firing(f"{name}{n}", trigger=name)])
