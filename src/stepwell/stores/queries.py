"""SQL lives in `.sql` files under names; this reads them.

A file is a list of queries, each after a line `-- name: some_name`. In a query `{other}` stands for the text of
another query, and `[…]*` for a part that is repeated, with commas between, as often as there are rows to hand over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from stepwell.errors import StepwellBug

_HEAD = re.compile(r"^-- name: (\w+)\s*$")
_PART = re.compile(r"\{(\w+)\}")
_REPEATED = re.compile(r"\[([^\]]*)\]\*")

SQL = Path(__file__).parent / "sql"


class Queries:
    """Queries by name: `queries["run"]`, or `queries.repeated("insert_entries", 64)`."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)
        self._repeated: dict[tuple[str, int], str] = {}

    def __getitem__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise StepwellBug(f"no query is named {name!r}") from None

    def repeated(self, name: str, times: int) -> str:
        """The query with its repeated part written `times` times."""
        known = self._repeated.get((name, times))
        if known is None:
            known = _REPEATED.sub(lambda part: ", ".join([part[1]] * times), self[name])
            self._repeated[name, times] = known
        return known


def load(folder: Path) -> Queries:
    """Read all queries of the `.sql` files that stand in `folder` (not below it)."""
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*.sql")):
        texts.update(parse(file.read_text("utf-8")))
    return Queries({name: _PART.sub(lambda part: texts[part[1]], text) for name, text in texts.items()})


def parse(text: str) -> dict[str, str]:
    """Return the queries of one file by name, without comments and with single spaces between words."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            lines = found.setdefault(head[1], [])
        elif not line.lstrip().startswith("--"):
            lines.append(line.strip())
    return {name: " ".join(line for line in body if line) for name, body in found.items()}
