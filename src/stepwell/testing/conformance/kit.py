"""What all the tests of stores share: how they run, and runs, entries and messages that are quickly written down."""

from __future__ import annotations

import asyncio
import functools
import inspect
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from stepwell.errors import StepwellError
from stepwell.model.entries import AnyEntry, RunCreated, StateSet
from stepwell.model.ids import SECOND
from stepwell.model.lifecycle import Status
from stepwell.stores.protocol import Append, Claimed, MessageKind, NewMessage, NewRun, RunRow, Store
from stepwell.stores.tables import NewEvent, OpenKind, OpenWait

E = TypeVar("E", bound=BaseException)

LEASE = 15 * SECOND


class Kit:
    """The base of the suites. A subclass names its store in `make_store`, and says what it cannot do."""

    folder: Path
    backs_up: ClassVar[bool] = True
    """Whether `backup` writes a copy; a store in memory refuses."""
    transacts: ClassVar[bool] = True
    """Whether the connection of `transact` takes SQL with `?` for parameters."""

    def make_store(self) -> Store:
        """A new store object on this test's place, not yet open."""
        raise NotImplementedError

    def open_copy(self, path: Path) -> Store:
        """A new store object on a backup, not yet open."""
        raise NotImplementedError

    def kill(self, store: Store) -> None:
        """End the store object as the death of its process would."""
        store.abandon()  # type: ignore[attr-defined]  # stores offer it for tests; it is no part of the protocol

    def fault(self, store: Store, hook: Callable[[str], None] | None) -> None:
        """Have `hook` called at the points inside the store's transactions."""
        store.fault(hook)  # type: ignore[attr-defined]  # as above

    def __init_subclass__(cls, **kwargs: Any) -> None:  # whatever a class statement may pass on
        super().__init_subclass__(**kwargs)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _run_to_its_end(test))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Store]:
        """An open store object that does not drive."""
        store = self.make_store()
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def driver(self, worker: str = "w1", *, now: int = 0) -> AsyncIterator[Store]:
        """An open store object that drives."""
        async with self.client() as store:
            await store.drive(worker, now=now, lease=LEASE)
            yield store


def _run_to_its_end(test: Callable[[Any], Awaitable[None]]) -> Callable[[Any], None]:
    @functools.wraps(test)
    def run(self: Kit) -> None:
        with tempfile.TemporaryDirectory(prefix="stepwell-suite-") as folder:
            self.folder = Path(folder)
            asyncio.run(_within(test, self))

    del run.__wrapped__  # else test runners take it for a coroutine function
    return run


async def _within(test: Callable[[Any], Awaitable[None]], self: Kit) -> None:
    await asyncio.wait_for(test(self), timeout=60)


@contextmanager
def refused(error: type[E], *mentions: str) -> Iterator[None]:
    """The block must raise this error, whose text mentions these words."""
    try:
        yield
    except error as raised:
        missing = [word for word in mentions if word not in str(raised)]
        assert not missing, f"{raised!r} does not mention {missing}"
        return
    raise AssertionError(f"{error.__name__} was not raised")


def new_run(
    run_id: str,
    *,
    workflow: str = "shop",
    owner: str | None = None,
    priority: int = 0,
    created_at: int = 1,
    wake_at: int | None = 1,
    root: str = "",
    parent: str | None = None,
    labels: dict[str, str] | None = None,
    blobs: dict[str, bytes] | None = None,
    entries: Sequence[AnyEntry] = (),
    **more: Any,  # other fields of NewRun, as they are
) -> NewRun:
    """A run whose journal begins with `run.created`."""
    root = root or run_id
    created = RunCreated(at=created_at, run_id=run_id, workflow=workflow, version="v1", root=root)
    return NewRun(
        run_id=run_id,
        workflow=workflow,
        version="v1",
        root=root,
        parent=parent,
        priority=priority,
        labels=labels or {},
        input_hash="00ff",
        created_at=created_at,
        wake_at=wake_at,
        entries=(created, *entries),
        owner=owner,
        blobs=blobs or {},
        **more,
    )


def note(text: str, *, at: int = 2) -> AnyEntry:
    """A small entry that says which one it is."""
    return StateSet(at=at, key=text, payload=msgspec.Raw(b"1"))


def notes(stored: Sequence[Any]) -> list[str]:
    """The texts of the small entries of a journal, in its order."""
    return [one.entry.key for one in stored if isinstance(one.entry, StateSet)]


def appended(
    claimed: Claimed | str,
    seq: int,
    *texts: str,
    epoch: int = 1,
    status: Status = "running",
    wake_at: int | None = None,
    at: int = 2,
    **more: Any,  # the fields of Append, as they are
) -> Append:
    """An append of small entries at `seq`, under the claim's epoch or `epoch`."""
    run_id = claimed if isinstance(claimed, str) else claimed.row.run_id
    epoch = epoch if isinstance(claimed, str) else claimed.row.epoch
    more.setdefault("entries", [note(text) for text in texts])
    return Append(run_id=run_id, epoch=epoch, seq=seq, status=status, wake_at=wake_at, at=at, **more)


def mail(
    run_id: str, name: str = "go", *, kind: MessageKind = "signal", at: int = 5, key: str = "", body: bytes = b"1"
) -> NewMessage:
    """A message."""
    return NewMessage(run_id=run_id, kind=kind, name=name, body=body, at=at, key=key, by="test")


def asked(id: str, run_id: str = "a", *, kind: OpenKind = "input", name: str = "Publish?", at: int = 3) -> OpenWait:
    """An open wait."""
    return OpenWait(id=id, run_id=run_id, kind=kind, path=f"ask[{id}]", name=name, at=at, due=None, body=b'{"x":1}')


def happened(id: str, topic: str = "orders", *, source: str = "test", at: int = 5, transient: bool = False) -> NewEvent:
    """An event to publish."""
    return NewEvent(topic=topic, source=source, id=id, body=b'{"id":"e"}', at=at, transient=transient)


async def claim_one(store: Store, *, worker: str = "w1", now: int = 10) -> Claimed:
    """Claim exactly one run of the workflow `shop`."""
    [claimed] = await store.claim(worker, workflows=["shop"], now=now, limit=1)
    return claimed


async def row_of(store: Store, run_id: str) -> RunRow:
    """The row of a run that is there."""
    row = await store.get(run_id)
    assert row is not None, f"there is no run {run_id}"
    return row


async def ended(store: Store, run_id: str, *, epoch: int = 1, at: int = 9, status: Status = "completed") -> None:
    """End a run that the store object owns."""
    row = await row_of(store, run_id)
    await store.append(appended(run_id, row.next_seq, epoch=epoch, status=status, finished_at=at, at=at))


class Broken(StepwellError):
    """What a test's fault hook raises."""


def break_at(point: str) -> Callable[[str], None]:
    """A hook that breaks the transaction at this point."""

    def hook(here: str) -> None:
        if here == point:
            raise Broken(f"broken at {point}")

    return hook
