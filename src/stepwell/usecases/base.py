"""What all use cases share: the store, the engine if there is one, the clock, and how a message is posted."""

from __future__ import annotations

import asyncio
from random import Random

import msgspec

from stepwell.authoring.graph import GraphWorkflow
from stepwell.authoring.registry import Registry
from stepwell.engine.clock import Clock
from stepwell.engine.graphs import keep_definition
from stepwell.engine.worker import Engine
from stepwell.errors import RequestRefused
from stepwell.nodes.registry import NodeTypes
from stepwell.stores.memory import MemoryStore
from stepwell.stores.protocol import Message, MessageKind, NewMessage, Store


class UseCases:
    """The ground that the groups of use cases stand on; `app.Stepwell` is all of them together."""

    store: Store
    _engine: Engine | None
    _volatile: MemoryStore
    _clock: Clock
    _chance: Random
    registry: Registry
    types: NodeTypes

    @property
    def engine(self) -> Engine:
        """The engine, for those who look inside.

        Raises:
            RequestRefused: this is a client, or it is not open.
        """
        if self._engine is None:
            raise RequestRefused("this Stepwell does not drive runs: open it with `async with`, and drive=True")
        return self._engine

    async def _keep_definition(self, graph: GraphWorkflow) -> None:
        """What a graph's runs are made of must be in the store before there is one."""
        if self._engine is not None:
            await self._engine.graphs.keep(self.store, graph)
        else:
            await keep_definition(self.store, graph, self._clock.now())

    def _store_of(self, id: str) -> Store:
        return self._volatile if id in self._volatile.data.runs else self.store

    async def _verb(self, id: str, kind: MessageKind, body: msgspec.Struct, by: str) -> None:
        await self._post(id, kind, "", msgspec.json.encode(body), by, "")

    async def _post(self, id: str, kind: MessageKind, name: str, body: bytes, by: str, key: str) -> bool:
        message = NewMessage(id, kind, name, body, self._clock.now(), key=key, by=by)
        posting = self._store_of(id).post(message)
        posting.add_done_callback(self._posted)
        return await asyncio.shield(posting) is not None

    def _posted(self, done: asyncio.Future[Message | None]) -> None:
        posted = None if done.cancelled() or done.exception() is not None else done.result()
        if posted is not None and self._engine is not None:
            self._engine.mailboxes.heard(posted)
