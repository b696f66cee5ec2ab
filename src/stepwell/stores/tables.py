"""What a store keeps beside runs and journals: open waits, events, queues, triggers and firings, definitions."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

OpenKind: TypeAlias = Literal["input", "event"]


class OpenWait(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A wait that others must be able to find: an input request (the inbox), or a subscription to a topic.

    `id` is unique in the store (`model.requests.request_id`), `path` the readable path of the wait, `name` the topic
    of an event or the prompt of an input request. `body` is for whoever asks: for an input request the JSON of a
    `model.requests.InputRequest`. A row with the id of another one replaces it. Times in microseconds.
    """

    id: str
    run_id: str
    kind: OpenKind
    path: str
    name: str
    at: int
    due: int | None = None
    body: bytes = b"{}"


class NewEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Something to publish. `body` is the whole CloudEvents envelope as JSON.

    `source` and `id` make it idempotent: a second event with both the same is not stored. A `transient` event is for
    those who wait for it now.
    """

    topic: str
    source: str
    id: str
    body: bytes
    at: int
    transient: bool = False


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A published event; `position` grows with every event of this store, in the order of commits."""

    position: int
    topic: str
    source: str
    id: str
    body: bytes
    at: int
    transient: bool = False


class Queue(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How many runs of a queue are under way, and how fast they are let in. None: no limit.

    `concurrency` counts runs that were let in and have not ended, `concurrency_per_key` those of one queue key (runs
    without a key share no limit); `rate` runs are let in within any `period` microseconds, `rate_per_key` of one key.
    A paused queue lets nobody in.
    """

    name: str
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: int | None = None
    rate_per_key: int | None = None
    period: int = 0
    paused: bool = False


class QueueRow(msgspec.Struct, frozen=True):
    """A queue, with how many runs wait in it and how many are under way."""

    queue: Queue
    waiting: int
    active: int


class Admission(msgspec.Struct, frozen=True):
    """Who was let in (run ids), and when to look again without being told of anything (None: never)."""

    admitted: tuple[str, ...]
    again_at: int | None


class TriggerRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A standing rule that starts runs of `workflow` with `input` (JSON, as the workflow's codec encodes it).

    `spec` (JSON) says when, in the form that its `kind` has; `options` (JSON) how runs are started. `cursor` is the
    occasion (microseconds; for events the position) up to which it has been considered, `next_at` when it is next due
    (None: never, or when told). The rows of one name are replaced by `put_trigger`, the cursor only by `advance`.
    """

    name: str
    kind: str
    workflow: str
    spec: bytes
    input: bytes = b"{}"
    options: bytes = b"{}"
    paused: bool = False
    cursor: int = 0
    next_at: int | None = None
    created_at: int = 0
    updated_at: int = 0
    by: str = ""


class Firing(msgspec.Struct, frozen=True, omit_defaults=True):
    """One occasion of a trigger: `key` tells it from the others, `run_id` is what it started ("" when `note` says why
    it started nothing). `occasion` is the time that it stands for, `at` when it was dealt with (microseconds)."""

    trigger: str
    key: str
    occasion: int
    at: int
    run_id: str = ""
    note: str = ""


DRAFT: Final = "draft"
"""What stands in place of a digest where a definition is a draft; no digest (hex digits) is written so."""


class NewDefinition(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A version of a workflow to keep. `body` is the definition as canonical JSON, `digest` the hash of its meaning.

    `digest` may be `DRAFT`: each workflow has one draft at most. `label`, when not empty, is to stand for the version.
    """

    name: str
    digest: str
    body: bytes
    at: int
    dialect: str = "stepwell"
    label: str = ""
    by: str = ""


class DefinitionRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A version of a deployed workflow, or its draft.

    `created_at` and `by` tell of the first time that it was put, `updated_at` of the last; for a draft `by` tells of
    the last, too. `labels` stand for it, in alphabetical order. `active` says whether new runs are of this version.
    `body` is empty in lists.
    """

    name: str
    digest: str
    body: bytes = b""
    dialect: str = "stepwell"
    created_at: int = 0
    updated_at: int = 0
    by: str = ""
    labels: tuple[str, ...] = ()
    active: bool = False
