"""A run as one JSON document, to keep, to send, or to let it go on in another store.

```json
{"format": "stepwell.snapshot", "version": 1, "checksum": "…", "content": {"at": …, "runs": […], "blobs": {…}}}
```

`runs` begins with the run that was exported; with it come those that it started, if they were asked for. Each has its
row, its entries as `stepwell journal --json` shows them, and the messages that it had not consumed; `blobs` has large
payloads in base64, by their content hash; `definitions` has the versions of deployed workflows that they are of.
`checksum` is the content hash of the bytes of `content`: a document that was
edited, or only laid out anew, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stepwell.engine.questions import open_waits
from stepwell.errors import RequestRefused
from stepwell.model.codec import content_hash
from stepwell.model.entries import AnyEntry, RunCreated, RunUpgraded
from stepwell.model.lifecycle import SET_ASIDE, TERMINAL
from stepwell.model.state import replay
from stepwell.model.versions import digest_of
from stepwell.stores.definitions import Version
from stepwell.stores.digests import digests_of
from stepwell.stores.protocol import Message, MessageKind, NewMessage, NewRun, RunRow, Stored
from stepwell.stores.tables import DefinitionRow, NewDefinition

FORMAT: Final = "stepwell.snapshot"
VERSION: Final = 1


class TakenMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that a run had not consumed; `body` is its JSON, if it has any."""

    kind: MessageKind
    name: str = ""
    body: msgspec.Raw = msgspec.Raw(b"null")
    at: int = 0
    by: str = ""


class TakenRun(msgspec.Struct, frozen=True):
    """One run of a snapshot."""

    row: RunRow
    entries: tuple[AnyEntry, ...]
    messages: tuple[TakenMessage, ...] = ()


class TakenDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version of a deployed workflow; `definition` is its canonical JSON."""

    name: str
    digest: str
    definition: msgspec.Raw
    dialect: str = "stepwell"


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a snapshot holds: runs, the exported one first, and payloads by content hash; `at` in microseconds."""

    at: int
    runs: tuple[TakenRun, ...]
    blobs: dict[str, bytes] = {}
    definitions: tuple[TakenDefinition, ...] = ()


class _Envelope(msgspec.Struct, frozen=True):
    format: str
    version: int
    checksum: str
    content: msgspec.Raw


# -- writing ---------------------------------------------------------------------------------------------------------


def taken(row: RunRow, entries: Sequence[Stored], messages: Sequence[Message]) -> TakenRun:
    """The run as a snapshot has it; who drives it stays behind."""
    mail = tuple(TakenMessage(one.kind, one.name, msgspec.Raw(one.body or b"null"), one.at, one.by) for one in messages)
    here = msgspec.structs.replace(row, owner=None, epoch=0, claims=0)
    return TakenRun(here, tuple(stored.entry for stored in entries), mail)


def digests_in(run: TakenRun) -> set[str]:
    """The content hashes of all payloads that the run keeps outside its journal."""
    found = {digest for entry in run.entries for digest in digests_of(entry)}
    for message in run.messages:
        if message.kind in ("child", "outcome"):  # those of the engine's own; what people send is kept in the message
            body = msgspec.json.decode(message.body)
            found |= {value for name, value in body.items() if name.endswith("_blob") and value}
    return found


def versions_of(run: TakenRun) -> set[Version]:
    """The versions that the run was of, each as a workflow's name and a digest; of workflow functions too."""
    upgrades = {entry.version for entry in run.entries if isinstance(entry, RunUpgraded)}
    return {(run.row.workflow, digest_of(version)) for version in (run.row.version, *upgrades)}


def write(
    runs: Sequence[TakenRun],
    blobs: Mapping[str, bytes],
    *,
    at: int,
    definitions: Sequence[DefinitionRow] = (),
) -> bytes:
    """The document."""
    kept = tuple(TakenDefinition(one.name, one.digest, msgspec.Raw(one.body), one.dialect) for one in definitions)
    content = msgspec.json.encode(Snapshot(at, tuple(runs), dict(blobs), kept))
    return msgspec.json.encode(_Envelope(FORMAT, VERSION, content_hash(content), msgspec.Raw(content)))


# -- reading ---------------------------------------------------------------------------------------------------------


def read(data: bytes) -> Snapshot:
    """The snapshot in a document.

    Raises:
        RequestRefused: it is none, of a format that this version does not know, or altered; the text says which.
    """
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestRefused(f"this is not a snapshot of a run: {error}") from None
    if envelope.format != FORMAT or envelope.version != VERSION:
        raise RequestRefused(
            f"this snapshot is of format {envelope.format!r}, version {envelope.version}; this program reads "
            f"{FORMAT!r}, version {VERSION}: use the program that wrote it, or a newer one"
        )
    found = content_hash(bytes(envelope.content))
    if found != envelope.checksum:
        raise RequestRefused(
            f"this snapshot was altered after it was written: its content has the hash {found}, and it says "
            f"{envelope.checksum}. Import the file as it was exported (laying it out anew counts as altering it)"
        )
    try:
        snapshot = msgspec.json.decode(envelope.content, type=Snapshot)
    except msgspec.MsgspecError as error:
        raise RequestRefused(f"this snapshot holds what this program does not know: {error}") from None
    _refuse_incomplete(snapshot)
    return snapshot


def _refuse_incomplete(snapshot: Snapshot) -> None:
    if not snapshot.runs:
        raise RequestRefused("this snapshot holds no run")
    for run in snapshot.runs:
        id = run.row.run_id
        first = run.entries[0] if run.entries else None
        if not isinstance(first, RunCreated) or first.run_id != id:
            raise RequestRefused(f"this snapshot's journal of run {id} does not begin with that run")
        for digest in sorted(digests_in(run)):
            if content_hash(snapshot.blobs.get(digest, b"")) != digest:
                raise RequestRefused(f"this snapshot misses the payload {digest} of run {id}")


def renamed(runs: Sequence[TakenRun], id: str | None) -> list[TakenRun]:
    """The runs, the first of them under another id; it then says where it came from."""
    old = runs[0].row.run_id
    if id is None or id == old:
        return list(runs)

    def other(name: str | None) -> str | None:
        return id if name == old else name

    result = []
    for run in runs:
        row, created = run.row, run.entries[0]
        assert isinstance(created, RunCreated), "it was looked at when it was read"
        names = {"run_id": other(row.run_id), "root": other(row.root), "parent": other(row.parent)}
        created = msgspec.structs.replace(created, **names)
        if row.run_id == old:
            created = msgspec.structs.replace(created, origin=old, origin_seq=len(run.entries))
        result.append(TakenRun(msgspec.structs.replace(row, **names), (created, *run.entries[1:]), run.messages))
    return result


def refuse_orphans(runs: Sequence[TakenRun]) -> None:
    """Refuse runs that wait for child runs which do not come with them: they would wait for ever.

    Raises:
        RequestRefused: there is such a run; the text says how to export it.
    """
    ids = {run.row.run_id for run in runs}
    for run in runs:
        state = replay(run.entries)
        for step in state.steps.values():
            if state.ended is None and step.step == "child" and step.child not in ids:
                raise RequestRefused(
                    f"run {run.row.run_id} waits for its child run {step.child}, which this snapshot does not have: "
                    "export it with the whole tree"
                )


def new_run(run: TakenRun, blobs: Mapping[str, bytes], now: int) -> NewRun:
    """What the store is given for a run of a snapshot; one that is under way wants to be driven at once."""
    row, state = run.row, replay(run.entries)
    created = run.entries[0]
    assert isinstance(created, RunCreated), "it was looked at when it was read"
    rests = state.status in TERMINAL | SET_ASIDE
    early = state.started_at is None and created.begin_at is not None
    return NewRun(
        run_id=row.run_id,
        workflow=row.workflow,
        version=row.version,
        root=row.root,
        parent=row.parent,
        priority=row.priority,
        labels=row.labels,
        input_hash=row.input_hash,
        created_at=row.created_at,
        wake_at=None if rests else max(now, created.begin_at or now) if early else now,
        entries=run.entries,
        blobs={digest: blobs[digest] for digest in digests_in(run)},
        status=state.status,
        finished_at=row.finished_at,
        queue=row.queue,
        queue_key=row.queue_key,
        held=bool(row.queue) and state.status not in TERMINAL,
        awaited=created.parent_step is not None,
        opened=open_waits(state),
        messages=tuple(
            NewMessage(row.run_id, one.kind, one.name, _body(one), one.at, by=one.by) for one in run.messages
        ),
    )


def new_definition(taken: TakenDefinition, now: int) -> NewDefinition:
    """What the store is given for a version that a run of a snapshot is of."""
    return NewDefinition(
        name=taken.name, digest=taken.digest, body=bytes(taken.definition), at=now, dialect=taken.dialect
    )


def _body(message: TakenMessage) -> bytes:
    body = bytes(message.body)
    return b"" if body == b"null" and message.kind != "signal" else body
