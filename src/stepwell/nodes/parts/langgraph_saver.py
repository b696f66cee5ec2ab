"""Where does a LangGraph graph keep its checkpoints? On a shelf of the store, in the same file as the journals.

A thread's rows stand on the shelf of an owner: of the run, for a thread called `<run id>|<anything>`, else of the
thread itself (so a thread called like a run is that run's, too). They go when the run is deleted. There are three
kinds: checkpoints (`c`), the writes that belong to one (`w`), and the values of channels by version (`b`), which many
checkpoints share, so that a long thread does not grow with the square of its length.

Source of the contract: `langgraph.checkpoint.base.BaseCheckpointSaver`; `langgraph-checkpoint-conformance` tests it.
Values are written by LangGraph's own serializer, as msgpack; nothing is pickled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.base.id import uuid6

from stepwell.errors import DefinitionError
from stepwell.model.shelf import Clear, Put, Shelf, ShelfChange

T = TypeVar("T")

Config = Mapping[str, Any]  # Any: LangGraph's RunnableConfig

THREAD_OF_RUN: Final = "|"
"""What stands between a run's id, which never has it, and the rest of a thread's."""

_END: Final = "\x1f"
_QUOTED: Final = str.maketrans({"%": "%25", "\x00": "%00", _END: "%1F"})
_PAGE: Final = 1000


class _Checkpoint(msgspec.Struct, array_like=True):
    """A row of kind `c`. `body` is the checkpoint without the values of its channels."""

    parent: str | None
    body: tuple[str, bytes]
    metadata: tuple[str, bytes]


class _Write(msgspec.Struct, array_like=True):
    """A row of kind `w`."""

    channel: str
    value: tuple[str, bytes]
    task_path: str


class _Place(NamedTuple):
    """A thread, or a namespace in it: where rows stand."""

    owner: str
    thread: str
    namespace: str = ""

    def key(self, kind: str, *parts: str) -> str:
        """The key of a row, or the beginning of several."""
        return "".join(part.translate(_QUOTED) + _END for part in ("langgraph", self.thread, kind, *parts))

    def config(self, checkpoint_id: str) -> dict[str, Any]:  # Any: LangGraph's RunnableConfig
        """What leads to a checkpoint here."""
        thread = self.owner + (THREAD_OF_RUN + self.thread if self.thread else "")
        return {
            "configurable": {
                "thread_id": thread,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }


class StoreSaver(BaseCheckpointSaver[str]):  # type: ignore[misc]  # LangGraph is not there when types are checked
    """A LangGraph checkpointer on a store's shelves; for graphs of one's own, `StoreSaver(app.store)`.

    Make it on the loop on which the store is open. The synchronous methods work on every other thread.
    """

    def __init__(self, shelf: Shelf, *, serde: Any = None) -> None:  # Any: LangGraph's SerializerProtocol
        super().__init__(serde=serde)
        self._shelf = shelf
        self._loop = asyncio.get_running_loop()

    # -- reading ------------------------------------------------------------------------------------------------

    async def aget_tuple(self, config: Config) -> CheckpointTuple | None:
        """The checkpoint that `config` leads to, the last of its namespace if it names none; None: there is none."""
        place, wanted = _place(config), get_checkpoint_id(config)
        if wanted:
            key = place.key("c", place.namespace, str(wanted))
            rows = list((await self._shelf.shelved_at(place.owner, [key])).items())
        else:
            rows = await self._shelf.shelved(place.owner, place.key("c", place.namespace), last_first=True, limit=1)
        return await self._whole(place, *rows[0]) if rows else None

    async def alist(
        self,
        config: Config | None,
        *,
        filter: dict[str, Any] | None = None,  # Any: values of metadata
        before: Config | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints of a thread (of all threads without `config`), the last first, that fit all arguments."""
        left = limit
        until = get_checkpoint_id(before) if before else None
        async for place, key, value in self._found(config):
            if left is not None and left <= 0:
                return
            if until and _last_part(key) >= until:
                continue
            if filter:
                metadata = self.serde.loads_typed(_CHECKPOINTS.decode(value).metadata)
                if any(metadata.get(name) != wanted for name, wanted in filter.items()):
                    continue
            yield await self._whole(place, key, value)
            left = None if left is None else left - 1

    async def _found(self, config: Config | None) -> AsyncIterator[tuple[_Place, str, bytes]]:
        if config is None:
            async for owner in self._owners():
                for place, key, value in await self._rows(owner, "langgraph" + _END):
                    yield place, key, value
            return
        place, wanted = _place(config), get_checkpoint_id(config)
        namespace = config["configurable"].get("checkpoint_ns")
        parts = () if namespace is None else (namespace, str(wanted)) if wanted else (namespace,)
        for one, key, value in await self._rows(place.owner, place.key("c", *parts)):
            if not wanted or _last_part(key) == wanted:
                yield one, key, value

    async def _rows(self, owner: str, prefix: str) -> Sequence[tuple[_Place, str, bytes]]:
        """The checkpoints' rows under a prefix, the last made first."""
        found = []
        for key, value in await self._shelf.shelved(owner, prefix):
            _, thread, kind, namespace, *_ = _parts(key)
            if kind == "c":
                found.append((_Place(owner, thread, namespace), key, value))
        return sorted(found, key=lambda row: _last_part(row[1]), reverse=True)

    async def _owners(self) -> AsyncIterator[str]:
        last = ""
        while page := await self._shelf.shelf_owners(after=last, limit=_PAGE):
            for owner in page:
                yield owner
            last = page[-1]

    async def _whole(self, place: _Place, key: str, value: bytes) -> CheckpointTuple:
        """A checkpoint with the values of its channels and the writes that belong to it."""
        row, id = _CHECKPOINTS.decode(value), _last_part(key)
        checkpoint: Checkpoint = self.serde.loads_typed(row.body)
        versions = checkpoint["channel_versions"]
        keys = {place.key("b", place.namespace, name, str(version)): name for name, version in versions.items()}
        values = await self._shelf.shelved_at(place.owner, list(keys))
        checkpoint["channel_values"] = {
            keys[found]: self.serde.loads_typed(_VALUES.decode(data)) for found, data in values.items()
        }
        return CheckpointTuple(
            config=place.config(id),
            checkpoint=checkpoint,
            metadata=self.serde.loads_typed(row.metadata),
            parent_config=place.config(row.parent) if row.parent else None,
            pending_writes=[
                (task, write.channel, self.serde.loads_typed(write.value))
                for task, write in await self._writes(place, id)
            ],
        )

    async def _writes(self, place: _Place, id: str) -> Sequence[tuple[str, _Write]]:
        found = []
        for key, value in await self._shelf.shelved(place.owner, place.key("w", place.namespace, id)):
            *_, task, index = _parts(key)
            found.append((task, int(index), _WRITES.decode(value)))
        found.sort(key=lambda one: writes_sort_key(one[2].task_path, one[0], one[1]))
        return [(task, write) for task, _, write in found]

    # -- writing ------------------------------------------------------------------------------------------------

    async def aput(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> dict[str, Any]:  # Any: LangGraph's RunnableConfig
        """Keep a checkpoint, and the values of the channels that are new with it, in one transaction."""
        place = _place(config)
        body = dict(checkpoint)
        values: Mapping[str, Any] = body.pop("channel_values", {})  # Any: what the graph's nodes wrote
        row = _Checkpoint(
            config["configurable"].get("checkpoint_id"),
            self.serde.dumps_typed(body),
            self.serde.dumps_typed(get_serializable_checkpoint_metadata(config, metadata)),
        )
        changes: list[ShelfChange] = [
            _put(place, self.serde.dumps_typed(values[name]), "b", place.namespace, name, str(version))
            for name, version in new_versions.items()
            if name in values
        ]
        changes.append(_put(place, row, "c", place.namespace, checkpoint["id"]))
        await self._shelf.shelve(changes)
        return place.config(checkpoint["id"])

    async def aput_writes(
        self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:  # Any: what the graph's nodes wrote
        """Keep what a task wrote: what is there stays, but for the few channels that say how the task stands."""
        place, id = _place(config), config["configurable"]["checkpoint_id"]
        changes: list[ShelfChange] = []
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            row = _Write(channel, self.serde.dumps_typed(value), task_path)
            parts = (place.namespace, id, task_id, str(index))
            changes.append(_put(place, row, "w", *parts, if_new=index >= 0))
        await self._shelf.shelve(changes)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete all of a thread."""
        owner, thread = _owner_of(thread_id)
        await self._shelf.shelve([Clear(owner, "".join(("langgraph", _END, thread.translate(_QUOTED), _END)))])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Let another thread have all that a thread has."""
        owner, thread = _owner_of(source_thread_id)
        target = _Place(*_owner_of(target_thread_id))
        rows = await self._shelf.shelved(owner, "".join(("langgraph", _END, thread.translate(_QUOTED), _END)))
        copies = [Put(target.owner, target.key(*_parts(key)[2:]), value) for key, value in rows]
        if copies:
            await self._shelf.shelve(copies)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that these LangGraph runs made, as their metadata say, in all threads."""
        wanted = set(run_ids)
        async for owner in self._owners():
            rows = await self._rows(owner, "langgraph" + _END)
            gone = {
                key
                for _, key, value in rows
                if self.serde.loads_typed(_CHECKPOINTS.decode(value).metadata).get("run_id") in wanted
            }
            if gone:
                await self._keep_only(owner, rows, {key for _, key, _ in rows} - gone)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all checkpoints of threads (`delete`), or all but what the last of each namespace needs.

        Raises:
            ValueError: the strategy is another one.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"prune: found strategy {strategy!r}; there are 'keep_latest' and 'delete'")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
                continue
            place = _Place(*_owner_of(thread_id))
            rows = await self._rows(place.owner, place.key("c"))
            await self._keep_only(place.owner, rows, await self._needed(rows))

    async def _needed(self, rows: Sequence[tuple[_Place, str, bytes]]) -> set[str]:
        """The keys of the last checkpoint of each namespace, and of those before it that its deltas build upon."""
        known = {key: (place, _CHECKPOINTS.decode(value)) for place, key, value in rows}
        needed: set[str] = set()
        for key in {place: key for place, key, _ in reversed(rows)}.values():
            place, row = known[key]
            needed.add(key)
            metadata = self.serde.loads_typed(row.metadata)
            open_channels = set(metadata.get("counters_since_delta_snapshot") or ())
            while open_channels and row.parent:
                key = place.key("c", place.namespace, row.parent)
                if key not in known:
                    break
                needed.add(key)
                row = known[key][1]
                versions = self.serde.loads_typed(row.body)["channel_versions"]
                keys = {
                    place.key("b", place.namespace, name, str(versions[name])): name
                    for name in open_channels
                    if name in versions
                }
                open_channels -= {keys[found] for found in await self._shelf.shelved_at(place.owner, list(keys))}
        return needed

    async def _keep_only(self, owner: str, rows: Sequence[tuple[_Place, str, bytes]], kept: set[str]) -> None:
        """Delete the other checkpoints of these, with their writes, and the values that none of these has any more."""
        changes: list[ShelfChange] = []
        used: set[str] = set()
        for place, key, value in rows:
            if key in kept:
                versions = self.serde.loads_typed(_CHECKPOINTS.decode(value).body)["channel_versions"]
                used |= {place.key("b", place.namespace, name, str(version)) for name, version in versions.items()}
            else:
                writes = place.key("w", place.namespace, _last_part(key))
                changes += [Clear(owner, key), Clear(owner, writes)]
        for place in {place for place, _, _ in rows}:
            values = await self._shelf.shelved(owner, place.key("b", place.namespace))
            changes += [Clear(owner, key) for key, _ in values if key not in used]
        if changes:
            await self._shelf.shelve(changes)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """A version behind `current` that no other branch of the thread has given."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{uuid6().hex}"

    # -- the same for other threads -----------------------------------------------------------------------------

    def get_tuple(self, config: Config) -> CheckpointTuple | None:
        """See `aget_tuple`."""
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: Config | None,
        *,
        filter: dict[str, Any] | None = None,  # Any: values of metadata
        before: Config | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """See `alist`."""

        async def gather() -> Iterable[CheckpointTuple]:
            return [one async for one in self.alist(config, filter=filter, before=before, limit=limit)]

        yield from self._wait(gather())

    def put(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> dict[str, Any]:  # Any: LangGraph's RunnableConfig
        """See `aput`."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:  # Any: what the graph's nodes wrote
        """See `aput_writes`."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """See `adelete_thread`."""
        self._wait(self.adelete_thread(thread_id))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See `acopy_thread`."""
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See `adelete_for_runs`."""
        self._wait(self.adelete_for_runs(run_ids))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """See `aprune`."""
        self._wait(self.aprune(thread_ids, strategy=strategy))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:  # Any: what it sends and takes
        try:
            on_the_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            on_the_loop = False
        if on_the_loop:
            work.close()
            raise DefinitionError(
                "a graph was asked to wait for its checkpoints on the loop that fetches them: use ainvoke, astream and "
                "their like there, or call invoke in a thread"
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


_CHECKPOINTS: Final = msgspec.msgpack.Decoder(_Checkpoint)
_WRITES: Final = msgspec.msgpack.Decoder(_Write)
_VALUES: Final = msgspec.msgpack.Decoder(tuple[str, bytes])


def _put(place: _Place, row: object, kind: str, *parts: str, if_new: bool = False) -> Put:
    return Put(place.owner, place.key(kind, *parts), msgspec.msgpack.encode(row), if_new)


def _owner_of(thread_id: str) -> tuple[str, str]:
    owner, _, thread = str(thread_id).partition(THREAD_OF_RUN)
    return owner, thread


def _place(config: Config) -> _Place:
    where = config["configurable"]
    return _Place(*_owner_of(where["thread_id"]), where.get("checkpoint_ns") or "")


def _parts(key: str) -> Sequence[str]:
    return [_unquoted(part) for part in key.split(_END)[:-1]]


def _last_part(key: str) -> str:
    return _unquoted(key.rstrip(_END).rpartition(_END)[2])


def _unquoted(part: str) -> str:
    return part.replace("%1F", _END).replace("%00", "\x00").replace("%25", "%") if "%" in part else part
