"""Is a message that was accepted kept, given once, and never slept through?"""

from __future__ import annotations

import asyncio

from stepwell.errors import RunNotFound, StepwellBug, WrongStatus
from stepwell.model.lifecycle import Status
from stepwell.stores.protocol import MessageKind
from stepwell.testing.conformance.kit import Broken, Kit, appended, break_at, claim_one, mail, new_run, notes, refused


class MailboxTests(Kit):
    """Posting, waking, consuming."""

    async def test_a_message_is_kept_until_it_is_consumed(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            posted = await store.post(mail("a", "go", body=b'{"x":1}', at=9))
            assert posted is not None
            assert (posted.run_id, posted.kind, posted.name, posted.body, posted.at, posted.by) == (
                ("a", "signal", "go", b'{"x":1}', 9, "test")
            )
            assert await store.mailbox("a") == [posted]
            await store.append(appended("a", 2, "x", consumed=(posted.id,)))
            assert await store.mailbox("a") == []

    async def test_messages_come_in_the_order_of_their_posts(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            posted = await asyncio.gather(*(store.post(mail("a", f"n{n}", at=100 - n)) for n in range(30)))
            there = await store.mailbox("a")
            assert [m.name for m in there] == [f"n{n}" for n in range(30)]
            assert there == posted
            ids = [m.id for m in there]
            assert ids == sorted(set(ids))

    async def test_a_post_makes_an_unowned_run_due(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", wake_at=1000))
            assert await store.claim("w1", workflows=["shop"], now=50, limit=9) == []
            posted = await store.post(mail("a", at=40))
            assert await store.next_wake(workflows=["shop"]) == 40
            claimed = await claim_one(store, now=50)
            assert claimed.messages == (posted,)

    async def test_a_post_does_not_put_off_a_run_that_is_due_earlier(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a", wake_at=10))
            await store.post(mail("a", at=40))
            assert await store.next_wake(workflows=["shop"]) == 10

    async def test_a_post_wakes_a_run_that_sleeps_for_ever(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, "x", status="waiting", release=True))
            assert await store.next_wake(workflows=["shop"]) is None
            await store.post(mail("a", at=40))
            assert (await claim_one(store, now=40)).row.run_id == "a"

    async def test_a_post_to_an_owned_run_leaves_its_row_alone(self) -> None:
        async with self.driver() as store:
            before = await store.create(new_run("a", owner="w1"))
            await store.post(mail("a"))
            assert await store.get("a") == before

    async def test_a_message_that_came_unseen_makes_a_released_run_due_at_once(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.post(mail("a", at=3))
            await store.append(appended("a", 2, "x", status="waiting", wake_at=1000, release=True, at=4))
            assert await store.next_wake(workflows=["shop"]) == 4

    async def test_a_message_that_was_seen_does_not_make_a_released_run_due(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            posted = await store.post(mail("a", at=3))
            assert posted is not None
            append = appended("a", 2, "x", status="waiting", wake_at=1000, release=True, at=4, seen=posted.id)
            await store.append(append)
            assert await store.next_wake(workflows=["shop"]) == 1000

    async def test_a_message_that_is_consumed_with_the_release_does_not_make_the_run_due(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            posted = await store.post(mail("a", at=3))
            assert posted is not None
            append = appended("a", 2, "x", status="waiting", release=True, at=4, consumed=(posted.id,))
            await store.append(append)
            assert await store.next_wake(workflows=["shop"]) is None

    async def test_a_repeated_key_is_posted_once(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            first = await store.post(mail("a", key="k"))
            assert first is not None
            assert await store.post(mail("a", key="k", body=b"2")) is None
            assert await store.mailbox("a") == [first]
            assert await store.post(mail("a", "other", key="k")) is not None
            assert await store.post(mail("a", kind="pause", key="k")) is not None

    async def test_a_repeated_key_is_known_after_the_message_was_consumed_and_the_run_has_ended(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            first = await store.post(mail("a", key="k"))
            assert first is not None
            await store.append(appended("a", 2, "x", consumed=(first.id,)))
            assert await store.post(mail("a", key="k")) is None
            await store.append(appended("a", 3, status="completed", finished_at=9))
            assert await store.post(mail("a", key="k")) is None

    async def test_a_repeated_key_among_posts_at_once_is_posted_once(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a"))
            posted = await asyncio.gather(*(store.post(mail("a", key="k")) for _ in range(9)))
            assert len([m for m in posted if m is not None]) == 1
            assert len(await store.mailbox("a")) == 1

    async def test_messages_without_a_key_are_all_kept(self) -> None:
        async with self.client() as store:
            await store.create(new_run("a"))
            assert len({m.id for _ in range(3) if (m := await store.post(mail("a"))) is not None}) == 3

    async def test_a_post_to_a_run_that_does_not_exist_is_refused(self) -> None:
        async with self.client() as store:
            with refused(RunNotFound, "nobody"):
                await store.post(mail("nobody"))

    async def test_a_resume_is_taken_when_the_pause_that_it_undoes_still_waits_to_be_taken(self) -> None:
        async with self.driver() as store:
            for name in ("one", "both"):
                await store.create(new_run(name, owner="w1"))
                await store.append(appended(name, 2, "x", status="waiting", release=True))
            await store.post(mail("one", kind="pause"))
            assert await store.post(mail("one", kind="resume")) is not None
            posted = await asyncio.gather(*(store.post(mail("both", kind=kind)) for kind in ("pause", "resume")))
            assert [m.kind for m in posted if m is not None] == ["pause", "resume"]

    async def test_which_messages_a_run_takes_depends_on_its_status(self) -> None:
        kinds: tuple[MessageKind, ...] = ("signal", "resume", "pause", "cancel", "retry", "child", "state")
        live = {"signal", "pause", "cancel", "child", "state"}
        taken: dict[Status, set[str]] = {
            "running": live,
            "waiting": live,
            "paused": live | {"resume"},
            "stuck": live | {"resume"},
            "completed": set(),
            "failed": {"retry"},
            "cancelled": {"retry"},
        }
        async with self.driver() as store:
            for status, expected in taken.items():
                await store.create(new_run(status, owner="w1"))
                await store.append(appended(status, 2, "x", status=status, release=True))
                accepted = set()
                for kind in kinds:
                    try:
                        await store.post(mail(status, kind=kind))
                        accepted.add(kind)
                    except WrongStatus as error:
                        assert status in str(error)
                assert accepted == expected, status

    async def test_a_retry_makes_a_failed_run_due(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, "x", status="failed", finished_at=3))
            await store.post(mail("a", kind="retry", at=7))
            claimed = await claim_one(store)
            assert claimed.row.status == "failed"
            await store.append(appended(claimed, 3, "again", consumed=(claimed.messages[0].id,)))
            row = await store.get("a")
            assert row is not None and (row.status, row.finished_at, row.owner) == ("running", None, "w1")

    async def test_a_post_that_comes_with_an_append_is_let_go_when_its_addressee_has_ended(self) -> None:
        async with self.driver() as store:
            for name in ("a", "ended"):
                await store.create(new_run(name, owner="w1"))
            await store.append(appended("ended", 2, status="cancelled", finished_at=3))
            posts = (mail("ended", kind="child"), mail("nobody", kind="child"))
            await store.append(appended("a", 2, "x", posts=posts))
            assert notes(await store.read("a")) == ["x"]
            assert await store.mailbox("ended") == []

    async def test_consuming_what_is_not_in_the_mailbox_writes_nothing(self) -> None:
        async with self.driver() as store:
            for name in ("a", "b"):
                await store.create(new_run(name, owner="w1"))
            other = await store.post(mail("b"))
            assert other is not None
            for id in (other.id, 999):
                with refused(StepwellBug, "a"):
                    await store.append(appended("a", 2, "x", consumed=(id,)))
            assert notes(await store.read("a")) == []
            assert len(await store.mailbox("b")) == 1

    async def test_the_open_messages_of_a_workers_runs_are_found_by_id(self) -> None:
        async with self.driver() as store:
            for name in ("a", "b"):
                await store.create(new_run(name, owner="w1"))
            await store.create(new_run("free", wake_at=1000))
            posted = [await store.post(mail(name)) for name in ("a", "b", "free", "a")]
            ids = [m.id for m in posted if m is not None]
            assert [m.id for m in await store.messages(after=0, owner="w1")] == [ids[0], ids[1], ids[3]]
            assert [m.id for m in await store.messages(after=ids[1], owner="w1")] == [ids[3]]
            await store.append(appended("a", 2, "x", consumed=(ids[3],)))
            assert await store.messages(after=ids[1], owner="w1") == []
            assert await store.messages(after=0, owner="w2") == []

    async def test_a_broken_post_leaves_nothing_and_may_be_repeated(self) -> None:
        async with self.client() as store:
            row = await store.create(new_run("a", wake_at=1000))
            self.fault(store, break_at("posted"))
            with refused(Broken):
                await store.post(mail("a", key="k"))
            self.fault(store, None)
            assert await store.get("a") == row
            assert await store.post(mail("a", key="k")) is not None

    async def test_any_client_may_post(self) -> None:
        async with self.driver() as store, self.client() as other:
            await store.create(new_run("a", owner="w1"))
            await store.create(new_run("b", wake_at=1000))
            await asyncio.gather(*(other.post(mail(name, at=6)) for name in ("a", "b") for _ in range(5)))
            assert len(await store.messages(after=0, owner="w1")) == 5
            assert await store.next_wake(workflows=["shop"]) == 6

    async def test_a_change_by_another_client_is_noticed(self) -> None:
        async with self.driver() as store, self.client() as other:
            await store.create(new_run("a", owner="w1"))
            store.changed()
            await other.post(mail("a"))
            assert store.changed()
            assert not store.changed()
