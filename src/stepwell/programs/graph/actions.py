"""The action of a node type as a task: what the executor runs, with retries and limits like any other."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from stepwell.authoring.context import AttemptContext, current
from stepwell.authoring.task import AsyncTask, Task, TaskOptions
from stepwell.errors import GraphError, Unserialisable
from stepwell.model.faults import find_fault
from stepwell.model.foreign import ENCODE
from stepwell.model.refusals import at
from stepwell.model.shelf import Shelf
from stepwell.nodes.parts.settings import filled
from stepwell.nodes.protocol import NodeType


class Context:
    """The `nodes.protocol.ActionContext` of one attempt."""

    __slots__ = ("_attempt", "answers", "secrets", "state", "step")

    def __init__(
        self,
        attempt: AttemptContext,
        step: str,
        answers: Mapping[str, object],
        state: object,
        secrets: Mapping[str, str],
    ) -> None:
        self._attempt = attempt
        self.step = step or attempt.step
        self.answers = answers
        self.state = state
        self.secrets = secrets

    @property
    def run_id(self) -> str:
        """As the protocol says, like all that follows."""
        return self._attempt.run_id

    @property
    def attempt(self) -> int:
        """The number of the attempt."""
        return self._attempt.attempt

    @property
    def idempotency_key(self) -> str:
        """The step's key."""
        return self._attempt.idempotency_key

    @property
    def shelf(self) -> Shelf:
        """The run's shelf."""
        shelf: Shelf | None = self._attempt.shelf
        if shelf is None:
            raise GraphError(f"node {self.step}: a run's shelf can be had in the engine's process only")
        return shelf

    def emit(self, chunk: object, usage: Mapping[str, int]) -> Awaitable[None]:
        """Send a chunk."""
        assert self._attempt.emit is not None, "an action runs in the engine's process"
        return self._attempt.emit(chunk, usage)

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        """Write a line."""
        self._attempt.note("log", {"message": message, **fields})

    def heartbeat(self) -> None:
        """Say that the attempt is alive."""
        self._attempt.note("heartbeat", {})


@functools.cache
def action_of(kind: NodeType) -> Task[..., Any]:  # Any: JSON
    """The task that runs a node type's action; its input is `{settings, answers, state, step, secrets}`."""

    async def act(
        settings: Any,  # Any: JSON, as all that follows
        answers: Any = None,
        state: Any = None,
        step: str = "",
        secrets: Any = None,
    ) -> msgspec.Raw:
        attempt = current.get()
        assert isinstance(attempt, AttemptContext), "an action runs in an attempt"
        made = filled(kind.Settings, settings)
        named = {name: os.environ.get(name, "") for name in secrets or ()}
        result = await kind.run(made, Context(attempt, step, answers or {}, state, named))
        return _written(result, kind.name)

    return AsyncTask(act, kind.name, TaskOptions())


def _written(result: object, name: str) -> msgspec.Raw:
    """What an action gave as plain JSON, for that is how a graph reads it: no member of it is a tag.

    Raises:
        Unserialisable: JSON cannot hold it.
    """
    try:
        found = msgspec.to_builtins(result)
        data = msgspec.json.encode(found, order="sorted")
    except (TypeError, ValueError, RecursionError) as error:
        raise Unserialisable(f"output of {name}: {error}; a node gives plain JSON") from error
    fault = find_fault(found, ENCODE) if b"null" in data else None  # what is no finite number is written as null
    if fault is not None:
        raise Unserialisable(f"{at(f'output of {name}', fault.path)} is {fault.found}: {fault.remedy}")
    return msgspec.Raw(data)
