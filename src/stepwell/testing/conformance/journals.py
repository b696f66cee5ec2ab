"""Do journals keep what was appended, whole, in order, and only from their owner?"""

from __future__ import annotations

import asyncio

import msgspec

from stepwell.errors import CorruptJournal, Fenced, RunNotFound
from stepwell.model.entries import RunCompleted, RunCreated
from stepwell.testing.conformance.kit import (
    Broken,
    Kit,
    appended,
    break_at,
    claim_one,
    mail,
    new_run,
    note,
    notes,
    refused,
)


class JournalTests(Kit):
    """Creating, appending, reading, payloads."""

    async def test_creating_a_run_writes_its_row_and_its_first_entries(self) -> None:
        async with self.client() as store:
            row = await store.create(new_run("a", labels={"team": "ops"}, entries=[note("first")]))
            assert (row.status, row.next_seq, row.epoch, row.owner, row.wake_at) == ("pending", 3, 0, None, 1)
            assert row == await store.get("a")
            stored = await store.read("a")
            assert [(one.seq, one.epoch) for one in stored] == [(1, 0), (2, 0)]
            assert isinstance(stored[0].entry, RunCreated)
            assert row.labels == {"team": "ops"}

    async def test_creating_an_id_that_exists_changes_nothing_and_returns_the_row_that_is_there(self) -> None:
        async with self.client() as store:
            first = await store.create(new_run("a", workflow="shop"))
            second = await store.create(new_run("a", workflow="other", entries=[note("more")]))
            assert second == first
            assert len(await store.read("a")) == 1

    async def test_creating_the_same_id_twice_at_once_makes_one_run(self) -> None:
        async with self.client() as store:
            rows = await asyncio.gather(*(store.create(new_run("a", created_at=at)) for at in range(1, 9)))
            assert len({row.created_at for row in rows}) == 1
            assert await store.count() == {"pending": 1}

    async def test_many_runs_created_at_once_are_all_there(self) -> None:
        async with self.client() as store:
            rows = await asyncio.gather(*(store.create(new_run(f"r{n}")) for n in range(300)))
            assert [row.run_id for row in rows] == [f"r{n}" for n in range(300)]
            assert await store.count() == {"pending": 300}

    async def test_a_run_created_for_the_driver_is_owned_at_once(self) -> None:
        async with self.driver() as store:
            row = await store.create(new_run("a", owner="w1"))
            assert (row.owner, row.epoch, row.wake_at) == ("w1", 1, None)
            assert await store.claim("w1", workflows=["shop"], now=99, limit=9) == []
            await store.append(appended("a", 2, "x"))
            assert notes(await store.read("a")) == ["x"]

    async def test_a_run_cannot_be_created_for_a_worker_that_does_not_drive(self) -> None:
        async with self.client() as store:
            with refused(Fenced):
                await store.create(new_run("a", owner="w1"))
            assert await store.get("a") is None

    async def test_an_append_moves_the_row_and_adds_the_entries(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            claimed = await claim_one(store)
            await store.append(appended(claimed, 2, "x", "y", at=7))
            row = await store.get("a")
            assert row is not None
            assert (row.status, row.next_seq, row.updated_at, row.claims, row.owner) == ("running", 4, 7, 0, "w1")
            stored = await store.read("a")
            assert [(one.seq, one.epoch) for one in stored] == [(1, 0), (2, 1), (3, 1)]
            assert notes(stored) == ["x", "y"]

    async def test_appends_of_one_run_may_be_asked_for_before_earlier_ones_end(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await asyncio.gather(*(store.append(appended("a", 2 + n, f"n{n}")) for n in range(40)))
            assert notes(await store.read("a")) == [f"n{n}" for n in range(40)]

    async def test_appends_of_many_runs_at_once_each_go_to_their_own_journal(self) -> None:
        async with self.driver() as store:
            await asyncio.gather(*(store.create(new_run(f"r{n}", owner="w1")) for n in range(70)))
            await asyncio.gather(
                *(store.append(appended(f"r{n}", 2 + k, f"{n}.{k}")) for k in range(3) for n in range(70))
            )
            for n in (0, 33, 69):
                assert notes(await store.read(f"r{n}")) == [f"{n}.{k}" for k in range(3)]

    async def test_an_append_with_an_old_epoch_is_fenced(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            claimed = await claim_one(store)
            await store.append(appended(claimed, 2, "x", release=True, wake_at=1))
            again = await claim_one(store)
            assert again.row.epoch == 2
            with refused(Fenced, "a"):
                await store.append(appended(claimed, 3, "late"))
            await store.append(appended(again, 3, "y"))
            assert notes(await store.read("a")) == ["x", "y"]

    async def test_an_old_epoch_is_fenced_in_every_kind_of_append_alone_and_among_others(self) -> None:
        async with self.driver() as store:
            for name in ("a", "b", "c"):
                await store.create(new_run(name, owner="w1"))
                await store.append(appended(name, 2, "x", release=True, wake_at=1))
            current = await store.claim("w1", workflows=["shop"], now=5, limit=9)
            assert [one.row.epoch for one in current] == [2, 2, 2]
            late = [
                appended("a", 3, "late"),
                appended("a", 3, "late", status="waiting"),
                appended("a", 3, status="waiting", wake_at=9, release=True),
                appended("a", 3, status="completed", finished_at=9),
            ]
            for append in late:
                with refused(Fenced):
                    await store.append(append)
                outcomes = await asyncio.gather(
                    store.append(append), store.append(appended("b", 3, "late")), return_exceptions=True
                )
                assert [type(outcome) for outcome in outcomes] == [Fenced, Fenced]
            assert [await store.get(one.row.run_id) for one in current] == [one.row for one in current]
            assert notes(await store.read("a")) == ["x"]

    async def test_the_row_of_an_owned_run_has_the_wake_of_its_last_append(self) -> None:
        async with self.driver() as store:
            for name in ("a", "b", "c"):
                await store.create(new_run(name, owner="w1"))
            for seq, wake_at in ((2, 50), (3, None), (4, 60), (5, None)):
                appends = [appended(name, seq, "x", status="waiting", wake_at=wake_at) for name in ("a", "b")]
                await asyncio.gather(*map(store.append, appends))
                await store.append(appended("c", seq, "x", status="waiting", wake_at=wake_at))
                rows = [await store.get(name) for name in ("a", "b", "c")]
                assert [row.wake_at for row in rows if row is not None] == [wake_at] * 3

    async def test_an_append_at_another_seq_is_fenced(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            for seq in (1, 3):
                with refused(Fenced):
                    await store.append(appended("a", seq, "x"))
            assert notes(await store.read("a")) == []

    async def test_an_append_to_a_run_that_nobody_owns_is_fenced(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            for epoch in (0, 1):
                with refused(Fenced):
                    await store.append(appended("a", 2, "x", epoch=epoch))

    async def test_an_append_by_a_client_that_does_not_drive_is_fenced(self) -> None:
        async with self.driver() as store, self.client() as other:
            await store.create(new_run("a", owner="w1"))
            with refused(Fenced):
                await other.append(appended("a", 2, "x"))

    async def test_an_append_to_a_run_that_does_not_exist_is_fenced(self) -> None:
        async with self.driver() as store:
            with refused(Fenced):
                await store.append(appended("nobody", 2, "x"))

    async def test_one_fenced_append_does_not_disturb_others_that_commit_with_it(self) -> None:
        async with self.driver() as store:
            await asyncio.gather(*(store.create(new_run(f"r{n}", owner="w1")) for n in range(10)))
            outcomes = await asyncio.gather(
                *(store.append(appended(f"r{n}", 2 if n != 4 else 9, "x")) for n in range(10)), return_exceptions=True
            )
            assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [4]
            assert isinstance(outcomes[4], Fenced)
            journals = [notes(await store.read(f"r{n}")) for n in range(10)]
            assert journals == [["x"] if n != 4 else [] for n in range(10)]

    async def test_an_append_after_a_fenced_one_of_the_same_run_is_judged_by_itself(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            outcomes = await asyncio.gather(
                store.append(appended("a", 2, "x")),
                store.append(appended("a", 9, "wrong")),
                store.append(appended("a", 3, "y")),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [type(None), Fenced, type(None)]
            assert notes(await store.read("a")) == ["x", "y"]

    async def test_an_append_without_entries_changes_the_row_only(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a"))
            claimed = await claim_one(store)
            await store.append(appended(claimed, 2, status="waiting", wake_at=50, release=True))
            row = await store.get("a")
            assert row is not None
            assert (row.status, row.next_seq, row.wake_at, row.owner, row.claims) == ("waiting", 2, 50, None, 0)

    async def test_a_run_that_ends_is_unowned_and_never_due(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            done = RunCompleted(at=8, output=msgspec.Raw(b"1"))
            await store.append(appended("a", 2, status="completed", entries=[done], wake_at=3, at=8, finished_at=8))
            row = await store.get("a")
            assert row is not None
            assert (row.status, row.owner, row.wake_at, row.finished_at) == ("completed", None, None, 8)
            assert await store.claim("w1", workflows=["shop"], now=99, limit=9) == []
            with refused(Fenced):
                await store.append(appended("a", 3, "late"))

    async def test_children_posts_messages_and_payloads_of_an_append_are_there_with_it(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.create(new_run("b", wake_at=1000))
            message = await store.post(mail("a"))
            assert message is not None
            done = RunCompleted(at=4, output_blob="d1")
            await store.append(
                appended(
                    "a",
                    2,
                    status="completed",
                    finished_at=4,
                    entries=[done],
                    consumed=(message.id,),
                    children=(new_run("a/c", root="a", parent="a", wake_at=6), new_run("b", root="a")),
                    posts=(mail("b", kind="child", at=7),),
                    blobs={"d1": b"large"},
                )
            )
            assert await store.mailbox("a") == []
            child, other = await store.get("a/c"), await store.get("b")
            assert child is not None and other is not None
            assert (child.root, child.parent, child.wake_at) == ("a", "a", 6)
            assert (other.root, other.wake_at) == ("b", 7)
            assert [m.kind for m in await store.mailbox("b")] == ["child"]
            assert await store.blob("d1") == b"large"

    async def test_nothing_of_a_broken_append_remains(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.create(new_run("b", wake_at=1000))
            message = await store.post(mail("a"))
            assert message is not None
            before = await store.get("a"), await store.get("b")
            append = appended(
                "a",
                2,
                "x",
                status="waiting",
                consumed=(message.id,),
                children=(new_run("a/c", root="a"),),
                posts=(mail("b", kind="child"),),
                blobs={"d1": b"large"},
            )
            for point in ("rows", "entries", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.append(append)
                self.fault(store, None)
                assert (await store.get("a"), await store.get("b")) == before
                assert notes(await store.read("a")) == []
                assert await store.get("a/c") is None
                assert [m.id for m in await store.mailbox("a")] == [message.id]
                assert await store.mailbox("b") == []
                with refused(CorruptJournal):
                    await store.blob("d1")
            await store.append(append)
            assert notes(await store.read("a")) == ["x"]

    async def test_nothing_of_a_broken_creation_remains(self) -> None:
        async with self.client() as store:
            self.fault(store, break_at("rows"))
            with refused(Broken):
                await store.create(new_run("a"))
            self.fault(store, None)
            assert await store.get("a") is None
            await store.create(new_run("a"))
            assert len(await store.read("a")) == 1

    async def test_a_journal_is_read_in_pages(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, *(f"n{n}" for n in range(20))))
            assert [one.seq for one in await store.read("a", after=5, limit=4)] == [6, 7, 8, 9]
            assert [one.seq for one in await store.read("a", after=19)] == [20, 21]
            assert await store.read("a", after=21) == []
            assert await store.read("a", limit=0) == []

    async def test_the_beginnings_of_many_journals_are_read_together(self) -> None:
        async with self.driver() as store:
            names = [f"r{n}" for n in range(70)]
            await asyncio.gather(*(store.create(new_run(name, owner="w1")) for name in names))
            await asyncio.gather(*(store.append(appended(name, 2, name, "y", "z")) for name in names[::2]))
            found = await store.read_many([*reversed(names), "nobody"], limit=3)
            assert sorted(found) == sorted(names)
            assert found == {name: await store.read(name, limit=3) for name in names}
            assert [len(found[name]) for name in names[:3]] == [3, 1, 3]
            assert await store.read_many(["nobody"], limit=3) == {}
            assert await store.read_many([], limit=3) == {}

    async def test_reading_a_run_that_does_not_exist_is_refused(self) -> None:
        async with self.client() as store:
            with refused(RunNotFound, "nobody"):
                await store.read("nobody")

    async def test_large_entries_and_payloads_come_back_as_they_were(self) -> None:
        async with self.driver() as store:
            large = bytes(range(256)) * 4096
            text = msgspec.Raw(b'"' + b"x" * 3_000_000 + b'"')
            await store.create(new_run("a", owner="w1", blobs={"d0": large}))
            done = RunCompleted(at=4, output=text)
            await store.append(appended("a", 2, "x", blobs={"d1": large * 2}))
            await store.append(appended("a", 3, status="completed", entries=[done], finished_at=4))
            last = (await store.read("a", after=2))[0].entry
            assert isinstance(last, RunCompleted) and bytes(last.output) == bytes(text)
            assert await store.blob("d0") == large
            assert await store.blob("d1") == large * 2

    async def test_a_payload_that_is_not_there_is_a_corrupt_journal(self) -> None:
        async with self.client() as store:
            with refused(CorruptJournal, "missing"):
                await store.blob("nothing")
