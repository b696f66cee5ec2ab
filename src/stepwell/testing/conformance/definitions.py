"""Are deployed definitions kept as they were put, and outputs for other runs until they expire?"""

from __future__ import annotations

import asyncio

import msgspec

from stepwell.errors import LabelTaken, WrongStatus
from stepwell.model.entries import RunUpgraded
from stepwell.stores.definitions import FORGOTTEN_AT_ONCE
from stepwell.stores.protocol import Store
from stepwell.stores.tables import DRAFT, DefinitionRow, NewDefinition
from stepwell.testing.conformance.kit import LEASE, Broken, Kit, appended, break_at, ended, new_run, refused


class DefinitionTests(Kit):
    """Putting, finding, activating, dropping."""

    async def test_a_version_is_there_as_it_was_put(self) -> None:
        async with self.client() as store, self.client() as other:
            assert await store.definitions() == []
            assert await store.definition("shop") is None
            assert await store.put_definition(_version("a1", by="ann", dialect="events", at=3))
            row = DefinitionRow(
                name="shop", digest="a1", body=b'{"of":"a1"}', dialect="events", created_at=3, updated_at=3, by="ann"
            )
            assert await other.definition("shop", "a1") == row
            assert await other.definitions() == [msgspec.structs.replace(row, body=b"")]
            assert await other.definition("shop", "a2") is None
            assert await other.definition("mail", "a1") is None

    async def test_a_version_that_is_put_again_is_not_new_and_keeps_when_and_by_whom_it_was_first_put(self) -> None:
        async with self.client() as store:
            assert await store.put_definition(_version("a1", at=3, by="ann"), activate=True)
            again = _version("a1", at=9, by="bob", body=b'{"title":"other"}')
            assert not await store.put_definition(again)
            row = await _there(store, "a1")
            assert (row.created_at, row.updated_at, row.by, row.body) == (3, 9, "ann", again.body)
            assert row.active
            assert len(await store.definitions()) == 1

    async def test_only_what_is_put_to_be_active_serves_new_runs(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1"))
            assert await store.definition("shop") is None
            await store.put_definition(_version("a2"), activate=True)
            await store.put_definition(_version("a3"))
            assert await _active(store) == "a2"
            await store.put_definition(_version("a3"), activate=True)
            assert await _active(store) == "a3"
            assert [row.digest for row in await store.definitions("shop") if row.active] == ["a3"]

    async def test_versions_are_listed_by_name_and_the_last_first_without_their_bodies(self) -> None:
        async with self.client() as store:
            for name, digest in (("b", "1"), ("a", "1"), ("b", "2"), ("a", "2"), ("b", "1")):
                await store.put_definition(_version(digest, name=name))
            assert [(row.name, row.digest) for row in await store.definitions()] == [
                ("a", "2"),
                ("a", "1"),
                ("b", "2"),
                ("b", "1"),
            ]
            assert [row.digest for row in await store.definitions("b")] == ["2", "1"]
            assert await store.definitions("c") == []
            assert all(not row.body for row in await store.definitions())

    async def test_a_version_is_found_by_its_labels(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1", label="2.1"))
            await store.put_definition(_version("a1", label="1 old"))
            row = await store.definition("shop", "2.1")
            assert row is not None and (row.digest, row.labels) == ("a1", ("1 old", "2.1"))
            [listed] = await store.definitions()
            assert listed.labels == ("1 old", "2.1")
            assert await store.definition("mail", "2.1") is None

    async def test_a_digest_goes_before_a_label_that_is_written_alike(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1", label="a2"))
            await store.put_definition(_version("a2"))
            assert (await _there(store, "a2")).body == b'{"of":"a2"}'

    async def test_a_label_of_another_version_is_refused_and_nothing_is_changed(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1", label="2.1"), activate=True)
            with refused(LabelTaken, "shop", "2.1", "a1", "a2"):
                await store.put_definition(_version("a2", label="2.1"), activate=True)
            assert [row.digest for row in await store.definitions()] == ["a1"]
            assert await _active(store) == "a1"
            assert not await store.put_definition(_version("a1", label="2.1"))
            assert await store.put_definition(_version("b1", name="mail", label="2.1"))

    async def test_a_label_is_moved_when_that_is_asked_for(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1", label="2.1"))
            assert await store.put_definition(_version("a2", label="2.1"), move_label=True)
            row = await store.definition("shop", "2.1")
            assert row is not None and row.digest == "a2"
            assert (await _there(store, "a1")).labels == ()

    async def test_another_version_is_made_active_and_none_at_all(self) -> None:
        async with self.client() as store, self.client() as other:
            await store.put_definition(_version("a1"), activate=True)
            await store.put_definition(_version("a2"), activate=True)
            assert await store.set_active("shop", "a1")
            assert await _active(other) == "a1"
            assert await store.set_active("shop", "a1")
            assert not await store.set_active("shop", "a9")
            assert not await store.set_active("mail", "a1")
            assert await _active(other) == "a1"
            assert await other.set_active("shop", "")
            assert await store.definition("shop") is None
            assert not await other.set_active("shop", "")

    async def test_a_draft_is_replaced_by_the_next_and_never_serves_runs(self) -> None:
        async with self.client() as store:
            assert await store.put_definition(_version(DRAFT, body=b"1", at=3, by="ann"))
            assert await store.definition("shop") is None
            assert not await store.put_definition(_version(DRAFT, body=b"2", at=5, by="bob"))
            row = await _there(store, DRAFT)
            assert (row.body, row.created_at, row.updated_at, row.by) == (b"2", 3, 5, "bob")
            for draft, activate in ((_version(DRAFT), True), (_version(DRAFT, label="x"), False)):
                with refused(WrongStatus, "shop", "draft"):
                    await store.put_definition(draft, activate=activate)
            assert not await store.set_active("shop", DRAFT)
            await store.put_definition(_version("a1"), activate=True)
            assert {row.digest for row in await store.definitions()} == {DRAFT, "a1"}

    async def test_versions_that_no_run_needs_are_dropped_with_their_labels(self) -> None:
        async with self.client() as store:
            for digest in ("a1", "a2", "a3", DRAFT):
                await store.put_definition(_version(digest, label="" if digest == DRAFT else f"of {digest}"))
            await store.set_active("shop", "a2")
            named = [("shop", "a1"), ("shop", "a2"), ("shop", DRAFT), ("shop", "none"), ("shop", "a1")]
            assert await store.drop_definitions(named, put_before=9) == named[:3]
            assert [row.digest for row in await store.definitions()] == ["a3"]
            assert await store.definition("shop") is None
            assert await store.definition("shop", "of a1") is None
            assert await store.put_definition(_version("a4", label="of a1"))
            assert await store.drop_definitions([], put_before=9) == []

    async def test_a_version_put_lately_is_not_dropped_since_its_run_may_be_on_its_way(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1", at=3))
            await store.put_definition(_version("a2", at=3))
            await store.put_definition(_version("a2", at=8))
            both = [("shop", "a1"), ("shop", "a2")]
            assert await store.drop_definitions(both, put_before=3) == []
            assert await store.drop_definitions(both, put_before=8) == [("shop", "a1")]
            assert await store.drop_definitions(both, put_before=9) == [("shop", "a2")]

    async def test_versions_are_kept_as_long_as_runs_of_them_are(self) -> None:
        async with self.driver() as store:
            versions = [("shop", digest) for digest in ("a1", "a2", "a3", "a4")]
            for _, digest in versions:
                await store.put_definition(_version(digest))
            await store.put_definition(_version("a1", name="mail"))
            for run_id, version in (("r1", "a1"), ("r2", "2.1+a2"), ("r3", "a9+a9")):
                run = msgspec.structs.replace(new_run(run_id, owner="w1"), version=version)
                await store.create(run)
            assert await store.drop_definitions([("mail", "a1"), *versions], put_before=9) == [
                ("mail", "a1"),
                ("shop", "a3"),
                ("shop", "a4"),
            ]
            await ended(store, "r1")
            assert await store.drop_definitions(versions, put_before=9) == []
            assert await store.delete(finished_before=99) == 1
            assert await store.drop_definitions(versions, put_before=9) == [("shop", "a1")]

    async def test_a_version_to_which_a_run_was_upgraded_is_kept_with_it(self) -> None:
        async with self.driver() as store:
            for digest in ("a1", "a2", "a3"):
                await store.put_definition(_version(digest))
            await store.create(msgspec.structs.replace(new_run("r1", owner="w1"), version="a1"))
            for seq, version in ((2, "2.1+a2"), (3, "a1")):
                await store.append(appended("r1", seq, entries=[RunUpgraded(at=4, version=version)]))
            named = [("shop", digest) for digest in ("a1", "a2", "a3")]
            assert await store.drop_definitions(named, put_before=9) == [("shop", "a3")]

    async def test_of_two_that_give_one_label_at_once_one_succeeds(self) -> None:
        async with self.client() as store, self.client() as other:
            clients = (store, other)
            done = await asyncio.gather(
                *(clients[n % 2].put_definition(_version(f"a{n}", label="2.1"), activate=True) for n in range(8)),
                return_exceptions=True,
            )
            assert [type(one) for one in done].count(bool) == 1
            assert all(isinstance(one, bool | LabelTaken) for one in done)
            [row] = await store.definitions()
            assert row.active and row.labels == ("2.1",)

    async def test_of_many_that_are_activated_at_once_one_is_active(self) -> None:
        async with self.client() as store, self.client() as other:
            clients = (store, other)
            await asyncio.gather(
                *(clients[n % 2].put_definition(_version(f"a{n}"), activate=True) for n in range(8)),
                *(clients[n % 2].set_active("shop", "a0") for n in range(4)),
            )
            rows = await store.definitions()
            assert len(rows) == 8
            assert sum(row.active for row in rows) == 1

    async def test_nothing_of_a_broken_change_to_definitions_remains(self) -> None:
        async with self.client() as store:
            await store.put_definition(_version("a1", label="2.1"), activate=True)
            await store.put_definition(_version("a2"))
            before = await store.definitions()
            for point in ("rows", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.put_definition(_version("a3", label="2.1"), activate=True, move_label=True)
                with refused(Broken):
                    await store.put_definition(_version("a1", body=b"other"), activate=True)
                with refused(Broken):
                    await store.drop_definitions([("shop", "a1")], put_before=99)
                self.fault(store, None)
                assert await store.definitions() == before
                assert (await _there(store, "a1")).body == b'{"of":"a1"}'

    async def test_what_was_deployed_survives_the_death_of_its_process(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=LEASE)
        await dying.put_definition(_version("a1", label="2.1"), activate=True)
        await dying.put_cached("k", b"1", at=5)
        self.kill(dying)
        async with self.driver("w2", now=20) as store:
            row = await store.definition("shop")
            assert row is not None and (row.digest, row.labels, row.body) == ("a1", ("2.1",), b'{"of":"a1"}')
            assert await store.cached("k", now=20) == b"1"

    async def test_names_labels_and_bodies_of_any_kind_come_back(self) -> None:
        async with self.client() as store:
            for n, text in enumerate(("'; --", "ключ ❄", "%", "a+b", '"')):
                body = text.encode() * 5000
                await store.put_definition(_version(f"d{n}", name=text, label=text, body=body), activate=True)
                row = await store.definition(text, text)
                assert row is not None and row.body == body
                assert [row.labels for row in await store.definitions(text)] == [(text,)]


class CachedTests(Kit):
    """Outputs that are kept for other runs."""

    async def test_a_payload_is_kept_under_its_key_until_it_expires(self) -> None:
        async with self.client() as store, self.client() as other:
            assert await store.cached("k", now=5) is None
            await store.put_cached("k", b"one", at=5, expires_at=10)
            assert await other.cached("k", now=9) == b"one"
            assert await other.cached("k", now=10) is None
            assert await other.cached("K", now=9) is None

    async def test_one_without_an_end_is_kept_until_it_is_forgotten(self) -> None:
        async with self.client() as store:
            await store.put_cached("k", b"", at=5)
            assert await store.cached("k", now=1 << 60) == b""

    async def test_the_last_one_put_under_a_key_counts(self) -> None:
        async with self.client() as store, self.client() as other:
            await store.put_cached("k", b"one", at=5, expires_at=10)
            await other.put_cached("k", b"two", at=6)
            assert await store.cached("k", now=50) == b"two"
            await asyncio.gather(*((store, other)[n % 2].put_cached("k", b"%d" % n, at=7) for n in range(8)))
            assert await store.cached("k", now=50) in {b"%d" % n for n in range(8)}

    async def test_putting_forgets_a_few_that_have_expired(self) -> None:
        async with self.client() as store:
            count = FORGOTTEN_AT_ONCE + 6
            for n in range(count):
                await store.put_cached(f"k{n}", b"x", at=1, expires_at=10 + n)
            await store.put_cached("live", b"x", at=1, expires_at=5000)
            await store.put_cached("new", b"x", at=1000)
            # What is left of those that expired is only to be found in a past in which they had not.
            left = [n for n in range(count) if await store.cached(f"k{n}", now=2) is not None]
            assert left == list(range(FORGOTTEN_AT_ONCE, count))
            assert await store.cached("live", now=1000) == b"x"
            await store.put_cached("newer", b"x", at=1001)
            assert await store.cached(f"k{count - 1}", now=2) is None

    async def test_old_ones_and_those_that_have_expired_are_forgotten_on_request(self) -> None:
        async with self.client() as store:
            await store.put_cached("old", b"x", at=5)
            await store.put_cached("over", b"x", at=20, expires_at=21)
            await store.put_cached("kept", b"x", at=20, expires_at=99)
            assert await store.forget_cached(before=22) == 3
            assert await store.forget_cached(before=22) == 0
            await store.put_cached("old", b"x", at=5)
            await store.put_cached("over", b"x", at=20, expires_at=21)
            await store.put_cached("kept", b"x", at=20, expires_at=99)
            assert await store.forget_cached(before=6) == 1
            assert await store.cached("over", now=20) == b"x"
            assert await store.cached("kept", now=20) == b"x"

    async def test_nothing_of_a_broken_put_remains(self) -> None:
        async with self.client() as store:
            await store.put_cached("k", b"one", at=5)
            for point in ("rows", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.put_cached("k", b"two", at=6)
                self.fault(store, None)
                assert await store.cached("k", now=9) == b"one"


def _version(
    digest: str,
    *,
    name: str = "shop",
    body: bytes = b"",
    label: str = "",
    at: int = 1,
    by: str = "",
    dialect: str = "stepwell",
) -> NewDefinition:
    body = body or b'{"of":"%s"}' % digest.encode()
    return NewDefinition(name=name, digest=digest, body=body, at=at, dialect=dialect, label=label, by=by)


async def _there(store: Store, digest: str) -> DefinitionRow:
    row = await store.definition("shop", digest)
    assert row is not None, f"there is no version {digest}"
    return row


async def _active(store: Store) -> str:
    row = await store.definition("shop")
    assert row is not None, "no version is active"
    return row.digest
