"""How do definitions stand in memory, and outputs that are kept for other runs?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from stepwell.model.entries import RunUpgraded
from stepwell.model.versions import digest_of
from stepwell.stores.definitions import FORGOTTEN_AT_ONCE, Version
from stepwell.stores.memory.content import Kept, MemoryData
from stepwell.stores.rules import label_taken, refuse_draft
from stepwell.stores.tables import DRAFT, DefinitionRow, NewDefinition


def put(data: MemoryData, new: NewDefinition, *, activate: bool, move_label: bool, at: Callable[[str], None]) -> bool:
    """Keep a version, its label, and whether it is active; whether it is new. `at` is told of each point on the way."""
    refuse_draft(new, activate=activate)
    if new.label and not move_label:
        other = data.labels.get((new.name, new.label), new.digest)
        if other != new.digest:
            raise label_taken(new, other)
    at("rows")
    at("commit")
    known = data.definitions.get((new.name, new.digest))
    by = new.by if known is None or new.digest == DRAFT else known.by
    data.definitions[new.name, new.digest] = DefinitionRow(
        name=new.name,
        digest=new.digest,
        body=new.body,
        dialect=new.dialect,
        created_at=new.at if known is None else known.created_at,
        updated_at=new.at,
        by=by,
    )
    if new.label:
        data.labels[new.name, new.label] = new.digest
    if activate:
        data.active[new.name] = new.digest
    return known is None


def find(data: MemoryData, name: str, version: str) -> DefinitionRow | None:
    """A version by its digest, else by its label; the active one for ""."""
    digest = version or data.active.get(name, "")
    if (name, digest) not in data.definitions:
        digest = data.labels.get((name, digest), "")
    row = data.definitions.get((name, digest))
    return None if row is None else _told(data, row)


def rows(data: MemoryData, name: str) -> list[DefinitionRow]:
    """Versions and drafts without their bodies, of one workflow or (for "") of all."""
    found = [row for row in data.definitions.values() if name in ("", row.name)]
    found.reverse()
    found.sort(key=lambda row: row.name)  # stable: put last for the first time first among equals
    return [msgspec.structs.replace(_told(data, row), body=b"") for row in found]


def activate(data: MemoryData, name: str, digest: str) -> bool:
    """Let new runs be of this version, or of none for ""; whether there was something to do it to."""
    if not digest:
        return data.active.pop(name, None) is not None
    if digest == DRAFT or (name, digest) not in data.definitions:
        return False
    data.active[name] = digest
    return True


def droppable(data: MemoryData, versions: Sequence[Version], *, put_before: int) -> list[Version]:
    """Those of the versions that are there, were not put lately, and that no run needs."""
    needed = set(_needed(data))
    return [
        version
        for version in dict.fromkeys(versions)
        if version in data.definitions
        and version not in needed
        and (version[1] == DRAFT or data.definitions[version].updated_at < put_before)
    ]


def drop(data: MemoryData, versions: Sequence[Version]) -> None:
    """Delete versions, with their labels."""
    for name, digest in versions:
        del data.definitions[name, digest]
        if data.active.get(name) == digest:
            del data.active[name]
        for key in [key for key, target in data.labels.items() if key[0] == name and target == digest]:
            del data.labels[key]


def put_cached(data: MemoryData, key: str, payload: bytes, *, at: int, expires_at: int | None) -> None:
    """Keep a payload, and forget a few that have expired."""
    data.cached[key] = Kept(payload, at, expires_at)
    over = [(kept.expires_at, key) for key, kept in data.cached.items() if kept.expired(at)]
    for _, gone in sorted(over, key=lambda one: one[0] or 0)[:FORGOTTEN_AT_ONCE]:
        del data.cached[gone]


def forget_cached(data: MemoryData, *, before: int) -> int:
    """Delete payloads that were put, or have expired, before this time; how many."""
    gone = [key for key, kept in data.cached.items() if kept.at < before or kept.expired(before - 1)]
    for key in gone:
        del data.cached[key]
    return len(gone)


def _told(data: MemoryData, row: DefinitionRow) -> DefinitionRow:
    """The row with what stands beside it: its labels, and whether it is active."""
    labels = sorted(label for (name, label), digest in data.labels.items() if (name, digest) == (row.name, row.digest))
    return msgspec.structs.replace(row, labels=tuple(labels), active=data.active.get(row.name) == row.digest)


def _needed(data: MemoryData) -> Iterator[Version]:
    for row in data.runs.values():
        yield row.workflow, digest_of(row.version)
        for stored in data.journals[row.run_id]:
            if isinstance(stored.entry, RunUpgraded):
                yield row.workflow, digest_of(stored.entry.version)
