"""`Queue`: how many runs go on at once, and how fast they are let in, for all runs that are started with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepwell.errors import DefinitionError
from stepwell.model.rates import Rate, rate

if TYPE_CHECKING:
    from stepwell.stores import tables

IMPLIED = ("workflow:", "trigger:")
"""How the names of queues begin that Stepwell makes itself: for `@workflow(concurrency=…)` and `overlap="queue"`."""

_LONGEST = 200


class Queue(msgspec.Struct, frozen=True):
    """A queue for runs; those that its limits leave no room for wait in it, pending, until they are let in.

    ```python
    mail = Queue("mail", concurrency=10, concurrency_per_key=1, rate="100/1m")
    async with Stepwell("sqlite:///shop.db", queues=[mail]) as app:
        await app.start(send, order, queue="mail", queue_key=order.customer)
    ```

    Who is let in first: the highest priority, then who has waited longest. A run is *under way* from when it is let in
    until it has ended, however long it waits or is paused. No limit keeps a run waiting for its own child runs.

    Args:
        name: what runs are started with; limits hold for the whole store.
        concurrency: how many of its runs may be under way at once (None: any number).
        concurrency_per_key: the same for the runs of one `queue_key`; runs without a key share no limit.
        rate: how many are let in within any window of time, such as `"50/1m"`.
        rate_per_key: the same for the runs of one key; a window as long as that of `rate`.
        paused: nobody is let in until it is resumed. Of a queue that the store knows already this changes nothing:
            what `pause_queue` and `resume_queue` said last holds.

    Raises:
        DefinitionError: the name or a limit is not usable.
    """

    name: str
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: str | None = None
    rate_per_key: str | None = None
    paused: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or len(self.name) > _LONGEST:
            raise DefinitionError(f"a queue needs a name of up to {_LONGEST} characters; found {self.name!r}")
        for option in ("concurrency", "concurrency_per_key"):
            limit = getattr(self, option)
            if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
                raise DefinitionError(f"queue {self.name!r}: {option}={limit!r}; give a whole number from 1")
        every, per_key = self._rate("rate"), self._rate("rate_per_key")
        if every is not None and per_key is not None and every.period != per_key.period:
            raise DefinitionError(
                f"queue {self.name!r}: rate={self.rate!r} and rate_per_key={self.rate_per_key!r} count over different "
                "times; give both per the same time"
            )

    def row(self) -> tables.Queue:
        """The queue as stores keep it."""
        from stepwell.stores import tables  # only now: tasks are defined and tested without a store

        every, per_key = self._rate("rate"), self._rate("rate_per_key")
        either = every or per_key
        return tables.Queue(
            name=self.name,
            concurrency=self.concurrency,
            concurrency_per_key=self.concurrency_per_key,
            rate=None if every is None else every.limit,
            rate_per_key=None if per_key is None else per_key.limit,
            period=0 if either is None else either.period,
            paused=self.paused,
        )

    def _rate(self, option: str) -> Rate | None:
        text = getattr(self, option)
        return None if text is None else rate(text, f"queue {self.name!r}: {option}")


def implied(workflow: str, concurrency: int) -> Queue:
    """The queue of a workflow that limits its own runs."""
    return Queue(f"{IMPLIED[0]}{workflow}", concurrency=concurrency)
