"""How do shelves stand in this file? A row for each key, with a checksum of its value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final
from zlib import crc32

from stepwell.errors import Fenced
from stepwell.model.shelf import LAST, Clear, ShelfChange, Values
from stepwell.stores.shelves import Fence, altered
from stepwell.stores.sqlite.group import Group
from stepwell.stores.sqlite.session import Session

CHECK_PAGE: Final = 500


def change(group: Group, changes: Sequence[ShelfChange], fence: Fence | None) -> None:
    """Carry the changes out, in order; puts that follow each other with few statements."""
    session, worker = group.session, group.holdings.worker
    if fence is not None and (worker is None or session.one("run_fence", (fence[0],)) != (fence[1], worker)):
        raise Fenced(f"run {fence[0]} is not owned under epoch {fence[1]}: nothing was put on its shelf; drop the run")
    for kind, some in groupby(changes, key=_kind):
        rows = []
        for one in some:
            if isinstance(one, Clear):
                session.run("clear_shelf", _range(one))
            else:
                rows.append((one.owner, one.key, crc32(one.value), one.value))
        if rows:
            session.insert(kind, rows)
            group.bytes_written += sum(len(row[3]) for row in rows)
        group.at("rows")
    group.rows_written += len(changes)
    _prove(group, changes)


def find(session: Session, owner: str, prefix: str, last_first: bool, limit: int) -> Values:
    """Keys that begin with `prefix`, with their values."""
    name = "shelved_last_first" if last_first else "shelved"
    rows = session.all(name, (owner, prefix, prefix + LAST, max(0, limit)))
    return list(_checked(session, owner, rows))


def at(session: Session, owner: str, keys: Sequence[str]) -> dict[str, bytes]:
    """The values under these keys, where there are any."""
    rows = session.among("shelved_at", keys, head=(owner,)) if keys else []
    return dict(_checked(session, owner, rows))


def owners(session: Session, *, after: str, limit: int) -> list[str]:
    """Who has something on a shelf, in order."""
    return [row[0] for row in session.all("shelf_owners", (after, max(0, limit)))]


def wrong_values(session: Session) -> list[str]:
    """What is not what was put, each said in a line."""
    wrong: list[str] = []
    last = 0
    while page := session.all("shelf_page", (last, CHECK_PAGE)):
        wrong += [str(altered(session.path, owner, key)) for _, owner, key, crc, value in page if crc32(value) != crc]
        last = page[-1][0]
    return wrong


def _kind(change: ShelfChange) -> str:
    if isinstance(change, Clear):
        return "clear"
    return "shelve_if_new" if change.if_new else "shelve"


def _range(clear: Clear) -> tuple[str, str, str]:
    return clear.owner, clear.prefix, clear.prefix + LAST


def _checked(session: Session, owner: str, rows: Sequence[tuple[str, int, bytes]]) -> Iterator[tuple[str, bytes]]:
    for key, crc, value in rows:
        if crc32(value) != crc:
            raise altered(session.path, owner, key)
        yield key, value


def _prove(group: Group, changes: Sequence[ShelfChange]) -> None:
    """The last change tells whether all are in the file; it may have been so before, so it is no sure sign."""
    if not changes:
        return
    last = changes[-1]
    if isinstance(last, Clear):
        group.prove(("shelf_holds", _range(last), None), sure=False)
    else:
        row = group.session.one("shelf_proof", (last.owner, last.key))
        group.prove(("shelf_proof", (last.owner, last.key), row), sure=False)
