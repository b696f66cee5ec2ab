"""People in the middle of runs: the inbox of open questions, and what can be done with one."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stepwell.engine.questions import AnswerBody, RequestBody
from stepwell.errors import NotAllowed, RequestNotFound, RequestRefused, WrongStatus
from stepwell.model.requests import InputRequest
from stepwell.stores.protocol import MessageKind
from stepwell.stores.tables import OpenWait
from stepwell.usecases.base import UseCases

PAGE = 500
"""Open questions read at a time when they are looked through for one person."""


class People(UseCases):
    """Questions that workflows have asked with `ctx.ask`."""

    async def inbox(self, who: str = "", run: str = "", *, limit: int = 1000, offset: int = 0) -> list[InputRequest]:
        """Open questions, oldest first: of one run, and those that `who` may answer and has not, when given.

        `limit` and `offset` count what is asked for: the questions of that run and for that person.
        """
        if not who:
            return await self._page(run, limit, offset)
        found: list[InputRequest] = []
        read = 0
        while len(found) < offset + limit and (page := await self._page(run, PAGE, read)):
            found += [one for one in page if _may(one, who) and who not in _answered(one)]
            read += PAGE
        return found[offset : offset + limit]

    async def _page(self, run: str, limit: int, offset: int) -> list[InputRequest]:
        rows = await self._open(run_id=run, limit=limit, offset=offset)
        return [msgspec.json.decode(row.body, type=InputRequest) for row in rows]

    async def request(self, id: str) -> InputRequest:
        """One open question.

        Raises:
            RequestNotFound: it was answered, withdrawn, timed out, or never there.
        """
        rows = await self._open(id=id, limit=1)
        if not rows:
            raise RequestNotFound(f"no open question has the id {id!r}: it has been answered, withdrawn or timed out")
        return msgspec.json.decode(rows[0].body, type=InputRequest)

    async def answer(self, id: str, value: object = None, *, by: str = "") -> None:
        """Answer a question; when this returns the answer is in the store, and its run goes on with it.

        Args:
            id: the question's id.
            value: what the question's schema asks for, as JSON values or as the type that the workflow named.
            by: who answers.

        Raises:
            RequestNotFound: the question is not open (any more).
            AnswerInvalid: the value does not fit the schema; each field is named, and the question stays open.
            NotAllowed: it is addressed to others.
            WrongStatus: it has its answer already, or this person's.
        """
        from stepwell.model.checking import accept  # loaded when it is wanted, as is the library behind it

        question = await self.request(id)
        if not _may(question, by):
            raise NotAllowed(
                f"question {id} is addressed to {', '.join(question.who)}"
                + (f", not to {by}" if by else ": say who answers with by=")
            )
        if question.quorum and by in _answered(question):
            raise WrongStatus(f"{by} has answered question {id} already; it cannot be answered twice")
        if question.quorum and not by:
            raise NotAllowed(f"question {id} asks {question.quorum} different people: say who answers with by=")
        data = accept(question.schema, value, f"the answer to question {id}")
        body = msgspec.json.encode(AnswerBody(question.step, data))
        # One key for a question to one person: of two answers at the same moment the second is told at once. A retried
        # run may ask at the same place once more, and then hears the same people again.
        key = f"{question.asked_at:x} {by if question.quorum else 'the answer'}"
        if not await self._post(question.run_id, "answer", id, body, by, key):
            again = f"{by} has answered question {id}" if question.quorum else f"question {id} has been answered"
            raise WrongStatus(f"{again} already; it cannot be answered twice")

    async def withdraw(self, id: str, *, by: str = "", reason: str = "") -> None:
        """Take a question back: the workflow gets `InputWithdrawn` where it waits.

        Raises:
            RequestNotFound: it is not open.
        """
        await self._about(id, "withdraw", by, reason, ())

    async def reassign(self, id: str, who: Iterable[str], *, by: str = "", reason: str = "") -> None:
        """Let others answer a question from now on (nobody named: anybody); answers that it has stay.

        Raises:
            RequestNotFound: it is not open.
            RequestRefused: it asks more people than could then answer it.
        """
        await self._about(id, "reassign", by, reason, tuple(dict.fromkeys(who)))

    async def _about(self, id: str, kind: MessageKind, by: str, reason: str, who: tuple[str, ...]) -> None:
        question = await self.request(id)
        if who and question.quorum > len(_answered(question).union(who)):
            raise RequestRefused(
                f"question {id} asks {question.quorum} different people: name more than {', '.join(who)} to answer it"
            )
        body = msgspec.json.encode(RequestBody(question.step, reason, who))
        await self._post(question.run_id, kind, id, body, by, "")

    async def _open(self, *, id: str = "", run_id: str = "", limit: int, offset: int = 0) -> list[OpenWait]:
        rows = await self.store.open_waits("input", id=id, run_id=run_id, limit=limit, offset=offset)
        if self._engine is None or not self._volatile.data.waits:
            return rows
        every = await self.store.open_waits("input", id=id, run_id=run_id, limit=offset + limit)
        every += await self._volatile.open_waits("input", id=id, run_id=run_id, limit=offset + limit)
        return sorted(every, key=lambda wait: wait.at)[offset : offset + limit]


def _may(question: InputRequest, who: str) -> bool:
    return not question.who or who in question.who


def _answered(question: InputRequest) -> set[str]:
    return {by for by, _ in question.answers}
