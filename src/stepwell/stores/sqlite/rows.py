"""How do rows of the file become the protocol's structs, and back?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from stepwell.errors import CorruptJournal
from stepwell.model.entries import AnyEntry, decode
from stepwell.stores.protocol import Message, RunRow, Stored

COLUMNS: Final = RunRow.__struct_fields__
"""The columns of a run in the order of `run_columns` in the queries."""

_LABELS = COLUMNS.index("labels")
_LABELS_DECODER = msgspec.json.Decoder(dict[str, str])


def run_row(values: Sequence[Any]) -> RunRow:  # columns as SQLite hands them over
    """The row of a run from its columns."""
    labels = _LABELS_DECODER.decode(values[_LABELS])
    columns = [*values[:_LABELS], labels, *values[_LABELS + 1 :]]
    return RunRow(*columns)


def row_values(row: RunRow) -> list[object]:
    """The columns of a run's row."""
    values: list[object] = [getattr(row, name) for name in COLUMNS]
    values[_LABELS] = msgspec.json.encode(row.labels, order="deterministic").decode()
    return values


def message(values: Sequence[Any]) -> Message:  # columns as SQLite hands them over
    """A message from the columns that the mailbox queries select."""
    return Message(*values)


def stored(run_id: str, expected: int, values: Sequence[Any]) -> Stored:  # columns as SQLite hands them over
    """An entry from its columns, checked.

    Raises:
        CorruptJournal: it is not the entry `expected`, its checksum is wrong, or it is none that is known.
    """
    seq, epoch, kind, body, crc = values
    if seq != expected:
        raise CorruptJournal(
            f"run {run_id}: the journal has no entry {expected}, the next one is {seq}; check the store"
        )
    entry = checked(run_id, seq, kind, body, crc)
    return Stored(seq, epoch, entry)


def checked(run_id: str, seq: int, kind: str, body: bytes, crc: int) -> AnyEntry:
    """Decode an entry whose checksum and kind are right."""
    if not isinstance(body, bytes) or crc32(body, seq) != crc:
        raise CorruptJournal(
            f"run {run_id}: entry {seq} ({kind}) is not what was written: its checksum differs; check the store"
        )
    try:
        entry = decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CorruptJournal(f"run {run_id}: entry {seq} ({kind}) cannot be read: {error}") from error
    if str(type(entry).__struct_config__.tag) != kind:
        raise CorruptJournal(f"run {run_id}: entry {seq} is filed as {kind} but says something else; check the store")
    return entry
