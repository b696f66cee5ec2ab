"""Can an open wait be found from outside as long as it is open, and be answered exactly as long?"""

from __future__ import annotations

import asyncio

import msgspec

from stepwell.errors import Fenced, RequestNotFound, WrongStatus
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import MessageKind, Store
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
    refused,
    row_of,
)

KINDS: tuple[MessageKind, ...] = ("answer", "withdraw", "reassign")


class WaitTests(Kit):
    """Opening, finding, closing, answering."""

    async def test_an_open_wait_is_found_by_its_kind_id_run_and_name(self) -> None:
        async with self.driver() as store:
            for name in "ab":
                await store.create(new_run(name, owner="w1"))
            waits = (asked("q1", at=5), asked("q2", at=4, name="Ship?"), asked("t1", kind="event", name="orders"))
            await store.append(appended("a", 2, "x", opened=waits))
            await store.append(appended("b", 2, opened=(asked("q3", "b", at=5),)))
            assert await store.open_waits("input", id="q1") == [waits[0]]
            assert await store.open_waits("event") == [waits[2]]
            assert await store.open_waits("event", id="q1") == []
            assert [wait.id for wait in await store.open_waits("input")] == ["q2", "q1", "q3"]
            assert [wait.id for wait in await store.open_waits("input", run_id="a")] == ["q2", "q1"]
            assert [wait.id for wait in await store.open_waits("input", name="Publish?")] == ["q1", "q3"]
            assert [wait.id for wait in await store.open_waits("input", name="Publish?", run_id="b")] == ["q3"]
            assert [wait.id for wait in await store.open_waits("input", limit=1, offset=1)] == ["q1"]
            assert await store.open_waits("input", limit=0) == []
            assert await store.open_waits("input", run_id="none") == []

    async def test_a_wait_keeps_what_it_was_opened_with(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            wait = msgspec.structs.replace(asked("q1"), due=77, body=b'{"prompt":"\xc3\xa4"}', path="a[1]/b")
            await store.append(appended("a", 2, opened=(wait,)))
            assert await store.open_waits("input") == [wait]

    async def test_a_wait_with_a_known_id_replaces_the_other(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, opened=(asked("q1"), asked("q2"))))
            changed = msgspec.structs.replace(asked("q1"), name="Really?", body=b"{}")
            await store.append(appended("a", 2, opened=(changed,)))
            assert await store.open_waits("input") == [changed, asked("q2")]

    async def test_a_closed_wait_is_gone_also_when_it_was_opened_with_the_same_append(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, "x", opened=(asked("q1"), asked("q2"), asked("q3")), closed=("q3",)))
            await store.append(appended("a", 3, closed=("q1", "unknown")))
            assert [wait.id for wait in await store.open_waits("input")] == ["q2"]

    async def test_appends_made_at_once_open_and_close_in_their_order(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await asyncio.gather(
                store.append(appended("a", 2, "x", opened=(asked("q1"), asked("q2")))),
                store.append(appended("a", 3, "y", closed=("q1", "q2"))),
                store.append(appended("a", 4, "z", opened=(asked("q2"),))),
                store.append(appended("a", 5, "z")),
            )
            assert [wait.id for wait in await store.open_waits("input")] == ["q2"]

    async def test_a_run_that_ends_has_no_open_waits(self) -> None:
        async with self.driver() as store:
            for status in sorted(TERMINAL):
                await store.create(new_run(status, owner="w1"))
                await store.create(new_run(f"{status}2", owner="w1"))
                await store.append(appended(status, 2, "x", opened=(asked("q1", status),)))
                await store.append(
                    appended(status, 3, "y", status=status, finished_at=4, opened=(asked("q2", status),))
                )
                await store.append(appended(f"{status}2", 2, opened=(asked(f"{status}2", f"{status}2"),)))
            assert {wait.run_id for wait in await store.open_waits("input")} == {f"{status}2" for status in TERMINAL}
            assert all(finding.ok for finding in await store.check())

    async def test_open_waits_survive_the_process(self) -> None:
        dying = self.make_store()
        await dying.open()
        await dying.drive("w1", now=0, lease=10)
        await dying.create(new_run("a", owner="w1"))
        await dying.append(appended("a", 2, "x", opened=(asked("q1"),)))
        self.kill(dying)
        async with self.driver("w2", now=20) as store:
            assert [wait.id for wait in await store.open_waits("input")] == ["q1"]
            claimed = await claim_one(store, worker="w2", now=20)
            await ended(store, "a", epoch=claimed.row.epoch)
            assert await store.open_waits("input") == []

    async def test_open_waits_go_with_their_run(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, "x", opened=(asked("q1"),)))
            await ended(store, "a")
            assert await store.delete(finished_before=100) == 1
            await store.create(new_run("a"))
            assert await store.open_waits("input") == []
            assert all(finding.ok for finding in await store.check())

    async def test_a_refused_append_opens_and_closes_nothing(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, opened=(asked("q1"),)))
            with refused(Fenced):
                await store.append(appended("a", 9, "x", opened=(asked("q2"),), closed=("q1",)))
            assert [wait.id for wait in await store.open_waits("input")] == ["q1"]

    async def test_nothing_of_a_broken_append_is_open_or_closed_or_published(self) -> None:
        async with self.driver() as store:
            for name in "ab":
                await store.create(new_run(name, owner="w1"))
            await store.append(appended("a", 2, opened=(asked("q1"),)))
            append = appended(
                "a",
                2,
                "x",
                opened=(asked("q2"),),
                closed=("q1",),
                events=(happened("e1"),),
                posts=(mail("b"),),
            )
            for point in ("rows", "entries", "published", "posted", "commit"):
                self.fault(store, break_at(point))
                with refused(Broken):
                    await store.append(append)
                self.fault(store, None)
                assert [wait.id for wait in await store.open_waits("input")] == ["q1"]
                assert await store.events() == []
                assert await store.mailbox("b") == []
                assert await store.last_event() == 0
            await store.append(append)
            assert [wait.id for wait in await store.open_waits("input")] == ["q2"]

    # -- answering ----------------------------------------------------------------------------------------------
    async def test_an_open_wait_takes_answers_and_a_closed_one_refuses_them(self) -> None:
        async with self.driver() as store, self.client() as other:
            await _asks(store, "a", "q1")
            for kind in KINDS:
                message = await other.post(mail("a", "q1", kind=kind))
                assert message is not None and message.kind == kind
            await store.append(appended("a", 3, "y", closed=("q1",)))
            for kind in KINDS:
                with refused(RequestNotFound, "q1", "a"):
                    await other.post(mail("a", "q1", kind=kind))
            assert len(await store.mailbox("a")) == len(KINDS)

    async def test_a_wait_of_another_run_cannot_be_answered(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            await store.create(new_run("b", owner="w1"))
            with refused(RequestNotFound):
                await store.post(mail("b", "q1", kind="answer"))
            with refused(RequestNotFound):
                await store.post(mail("a", "q2", kind="answer"))

    async def test_a_run_that_has_ended_refuses_answers(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            await ended(store, "a")
            for kind in KINDS:
                with refused(WrongStatus, "a"):
                    await store.post(mail("a", "q1", kind=kind))

    async def test_an_answer_posted_again_under_its_key_is_known_also_after_the_wait_closed(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            message = await store.post(mail("a", "q1", kind="answer", key="k"))
            assert message is not None
            await store.append(appended("a", 3, "y", closed=("q1",), consumed=(message.id,)))
            assert await store.post(mail("a", "q1", kind="answer", key="k")) is None
            with refused(RequestNotFound):
                await store.post(mail("a", "q1", kind="answer", key="other"))

    async def test_an_answer_wakes_an_unowned_run(self) -> None:
        async with self.driver() as store:
            await store.create(new_run("a", owner="w1"))
            await store.append(appended("a", 2, "x", status="waiting", release=True, opened=(asked("q1"),)))
            posted = await store.post(mail("a", "q1", kind="answer", at=8))
            assert (await row_of(store, "a")).wake_at == 8
            assert (await claim_one(store)).messages == (posted,)

    async def test_an_answer_that_comes_right_after_the_append_that_closes_is_refused(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            closing = store.append(appended("a", 3, "y", closed=("q1",)))
            answer = store.post(mail("a", "q1", kind="answer"))
            await closing
            with refused(RequestNotFound):
                await answer

    async def test_an_answer_that_comes_right_before_the_append_that_closes_is_taken(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            answer = store.post(mail("a", "q1", kind="answer"))
            closing = store.append(appended("a", 3, "y", closed=("q1",)))
            assert await answer is not None
            await closing

    async def test_an_answer_to_a_run_that_ends_at_the_same_moment_is_refused(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            closing = store.append(appended("a", 3, "y", status="completed", finished_at=4))
            answer = store.post(mail("a", "q1", kind="answer"))
            await closing
            with refused(WrongStatus):
                await answer

    async def test_an_answer_sent_with_an_append_is_dropped_when_nothing_is_open(self) -> None:
        async with self.driver() as store:
            await _asks(store, "a", "q1")
            await store.create(new_run("b", owner="w1"))
            posts = (mail("a", "q1", kind="answer"), mail("a", "q2", kind="answer"))
            await store.append(appended("b", 2, "x", posts=posts))
            assert [message.name for message in await store.mailbox("a")] == ["q1"]


async def _asks(store: Store, run_id: str, id: str) -> None:
    """An owned run with an open input request, whose journal goes on at 3."""
    await store.create(new_run(run_id, owner="w1"))
    await store.append(appended(run_id, 2, "x", opened=(asked(id, run_id),)))
