"""What the run leaves in the results folder: a catalogue, the groups, what was dropped and why, and a contact sheet.

| file | what is in it |
|---|---|
| `catalogue.csv` | every processed product: its group (0: none) and best similarity, colours and hash |
| `groups.jsonl` | a line per group: its members with their similarities |
| `dropped.csv` | every product that could not be processed, with the error |
| `contact-sheet.png` | the best groups as pictures |

Each file is written beside its place and moved there, so a repeated export is harmless and none is ever half written.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from stepwell.examples.catalogue.records import Dropped, Row, Score, Similar
from stepwell.examples.catalogue.sheet import contact_sheet


def export_all(
    rows: Sequence[Row],
    similar: Similar,
    score: Score,
    dropped: Sequence[Dropped],
    folder: Path,
    results: Path,
    groups: int,
) -> list[str]:
    """Write all files into `results`, photographs read from `folder`; returns the files' names."""
    results.mkdir(parents=True, exist_ok=True)
    names = {row.number: row.name for row in rows}
    sheet = contact_sheet(similar, score, names, folder, groups)
    files = {
        "catalogue.csv": _catalogue(rows, similar).encode(),
        "groups.jsonl": _groups(similar, names).encode(),
        "dropped.csv": _table(("number", "error", "reason"), [(d.number, d.error, d.reason) for d in dropped]).encode(),
        "contact-sheet.png": sheet,
    }
    for name, content in files.items():
        fresh = results / f"{name}.new"
        fresh.write_bytes(content)
        os.replace(fresh, results / name)
    return list(files)


def _catalogue(rows: Sequence[Row], similar: Similar) -> str:
    place: dict[int, tuple[int, float | str]] = {
        number: (at, value)
        for at, group in enumerate(similar.groups, start=1)
        for number, value in zip(group.members, group.scores, strict=True)
    }
    lines = []
    for row in rows:
        group, value = place.get(row.number, (0, ""))
        price = f"{row.price // 100}.{row.price % 100:02}"
        lines.append((row.number, row.name, price, group, value, row.ink, row.paper, row.dhash))
    return _table(("number", "name", "price", "group", "similarity", "ink", "paper", "dhash"), lines)


def _groups(similar: Similar, names: dict[int, str]) -> str:
    lines = []
    for at, group in enumerate(similar.groups, start=1):
        members = [
            {"number": number, "name": names.get(number, ""), "similarity": value}
            for number, value in zip(group.members, group.scores, strict=True)
        ]
        lines.append(json.dumps({"group": at, "members": members}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return out.getvalue()
