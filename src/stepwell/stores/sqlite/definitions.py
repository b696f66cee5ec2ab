"""How do definitions stand in this file, and outputs that are kept for other runs?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import msgspec

from stepwell.errors import CorruptJournal
from stepwell.model.versions import digest_of
from stepwell.stores.definitions import FORGOTTEN_AT_ONCE, Version
from stepwell.stores.rules import label_taken, refuse_draft
from stepwell.stores.sqlite.group import Group
from stepwell.stores.sqlite.session import Session
from stepwell.stores.tables import DRAFT, DefinitionRow, NewDefinition


class _Upgraded(msgspec.Struct):
    """What matters here of a `run.upgraded`."""

    version: str = ""


_UPGRADED = msgspec.json.Decoder(_Upgraded)


def put(group: Group, new: NewDefinition, *, activate: bool, move_label: bool) -> bool:
    """Keep a version, its label, and whether it is active; whether it is new."""
    refuse_draft(new, activate=activate)
    session = group.session
    key = (new.name, new.digest)
    if new.label and not move_label:
        there = session.one("labelled", (new.name, new.label))
        if there is not None and there[0] != new.digest:
            raise label_taken(new, there[0])
    is_new = session.one("definition_exists", key) is None
    session.run("put_definition", (*key, new.dialect, new.at, new.at, new.by, crc32(new.body), new.body))
    group.at("rows")
    if new.label:
        session.run("put_label", (new.name, new.label, new.digest))
    if activate:
        session.run("deactivate", (new.name,))
        session.run("activate", key)
    group.rows_written += 1
    group.bytes_written += len(new.body)
    proof = (new.label, *key)
    group.prove(("definition_proof", proof, session.one("definition_proof", proof)), sure=is_new)
    return is_new


def find(session: Session, name: str, version: str) -> DefinitionRow | None:
    """A version by its digest, else by its label; the active one for ""."""
    row = session.one("definition", (name, version)) if version else session.one("active_definition", (name,))
    if row is None and version:
        labelled = session.one("labelled", (name, version))
        row = None if labelled is None else session.one("definition", (name, labelled[0]))
    if row is None:
        return None
    *columns, crc, body = row
    found = _row(columns)
    if not isinstance(body, bytes) or crc32(body) != crc:
        raise CorruptJournal(
            f"store {session.path}: version {found.digest} of workflow {name} is not what was deployed: its checksum "
            "differs; deploy the same file again"
        )
    labels = tuple(row[1] for row in session.all("labels_of", (name,)) if row[2] == found.digest)
    return msgspec.structs.replace(found, body=body, labels=labels)


def rows(session: Session, name: str) -> list[DefinitionRow]:
    """Versions and drafts without their bodies, of one workflow or (for "") of all."""
    found = session.all("definitions_of", (name,)) if name else session.all("definitions")
    labels: dict[Version, list[str]] = {}
    for of, label, digest in session.all("labels_of", (name,)) if name else session.all("all_labels"):
        labels.setdefault((of, digest), []).append(label)
    versions = [_row(row) for row in found]
    return [
        msgspec.structs.replace(version, labels=tuple(labels.get((version.name, version.digest), ())))
        for version in versions
    ]


def activate(group: Group, name: str, digest: str) -> bool:
    """Let new runs be of this version, or of none for ""; whether there was something to do it to."""
    session = group.session
    if not digest:
        group.prove(("has_active", (name,), None), sure=False)
        return session.run("deactivate", (name,)) == 1
    if digest == DRAFT or session.one("definition_exists", (name, digest)) is None:
        return False
    session.run("deactivate", (name,))
    group.at("rows")
    session.run("activate", (name, digest))
    group.rows_written += 1
    group.prove(("is_active", (name, digest), (1,)), sure=False)
    return True


def drop(group: Group, versions: Sequence[Version], *, put_before: int) -> list[Version]:
    """Delete those of the versions that are there, were not put lately, and that no run needs; which."""
    session = group.session
    there = []
    for version in dict.fromkeys(versions):
        row = session.one("definition_updated_at", version)
        if row is not None and (version[1] == DRAFT or row[0] < put_before):
            there.append(version)
    needed = _needed(session, sorted({name for name, _ in there}))
    gone = [version for version in there if version not in needed]
    for version in gone:
        session.run("drop_definition", version)
        session.run("drop_labels", version)
        group.at("rows")
    if gone:
        group.rows_written += len(gone)
        group.prove(("definition_exists", gone[0], None))
    return gone


def cached(session: Session, key: str, *, now: int) -> bytes | None:
    """The payload kept under a key, if it has not expired and is what was put."""
    row = session.one("cached", (key,))
    if row is None:
        return None
    expires_at, crc, payload = row
    if expires_at is not None and expires_at <= now:
        return None
    return payload if isinstance(payload, bytes) and crc32(payload) == crc else None


def put_cached(group: Group, key: str, payload: bytes, *, at: int, expires_at: int | None) -> None:
    """Keep a payload, and forget a few that have expired."""
    crc = crc32(payload)
    group.session.run("put_cached", (key, at, expires_at, crc, payload))
    group.rows_written += 1 + group.session.run("forget_expired", (at, FORGOTTEN_AT_ONCE))
    group.bytes_written += len(payload)
    group.at("rows")
    group.prove(("cached_proof", (key,), group.session.one("cached_proof", (key,))), sure=False)


def forget_cached(group: Group, *, before: int) -> int:
    """Delete payloads that were put, or have expired, before this time; how many."""
    count = group.session.run("forget_cached", (before, before))
    group.rows_written += count
    if count:
        group.prove(("any_cached_before", (before, before), (0,)))
    return count


def wrong_bodies(session: Session) -> list[str]:
    """The versions whose body is not what was put, as sentences."""
    wrong = []
    for row in session.all("definitions"):
        name, digest = row[:2]
        try:
            find(session, name, digest)
        except CorruptJournal as error:
            wrong.append(str(error))
    return wrong


def _row(columns: Sequence[Any]) -> DefinitionRow:  # columns as SQLite hands them over
    name, digest, dialect, created_at, updated_at, by, active = columns
    return DefinitionRow(
        name=name,
        digest=digest,
        dialect=dialect,
        created_at=created_at,
        updated_at=updated_at,
        by=by,
        active=bool(active),
    )


def _needed(session: Session, names: Sequence[str]) -> set[Version]:
    """The versions that runs of these workflows need."""
    if not names:
        return set()
    needed = {(name, digest_of(version)) for name, version in session.among("versions_of_runs", names)}
    for name, body in session.among("upgrades_of_runs", names):
        needed.add((name, digest_of(_UPGRADED.decode(body).version)))
    return needed
