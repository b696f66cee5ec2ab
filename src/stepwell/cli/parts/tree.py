"""The runs that a run has started, and those that they have, as a tree in which large families are counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stepwell.app import Stepwell
from stepwell.cli.parts import words
from stepwell.model.durations import spoken
from stepwell.model.lifecycle import TERMINAL
from stepwell.stores.protocol import Filter, RunRow

SHOWN: Final = 10
"""How many children of one run and one workflow are shown one by one, unless all are asked for."""

FAMILY: Final = 20_000
"""How many runs of a tree are looked at, the newest first."""

_PAGE: Final = 2000
_ATTENTION: Final = {"failed": 0, "stuck": 1, "paused": 2, "cancelled": 3, "running": 4, "waiting": 5, "pending": 6}
"""Which of many are shown: those that somebody may have to look at."""


class Tree:
    """The runs below one run.

    Args:
        run_id: the run at the top.
        rows: all runs that have its root, in any order.
        is_cut: whether there are more than were read.
    """

    def __init__(self, run_id: str, rows: list[RunRow], *, is_cut: bool = False) -> None:
        self.run_id = run_id
        self.rows = rows
        self.is_cut = is_cut
        self._children: dict[str, list[RunRow]] = {}
        for row in sorted(rows, key=lambda row: (row.created_at, row.run_id)):
            if row.parent is not None:
                self._children.setdefault(row.parent, []).append(row)

    def below(self) -> Iterator[RunRow]:
        """All runs below the top one, each before its own children."""
        waiting = list(reversed(self._children.get(self.run_id, ())))
        while waiting:
            row = waiting.pop()
            yield row
            waiting += reversed(self._children.get(row.run_id, ()))

    def lines(self, now: int, *, everything: bool = False) -> list[str]:
        """The tree as text."""
        lines = list(self._branches(self.run_id, "", now, everything))
        if self.is_cut:
            lines.append(f"… only the newest {FAMILY:,} runs of this tree were read")
        return lines

    def _branches(self, parent: str, indent: str, now: int, everything: bool) -> Iterator[str]:
        twigs = self._twigs(self._children.get(parent, []), everything)
        for number, twig in enumerate(twigs):
            is_last = number == len(twigs) - 1
            branch = f"{indent}{'└' if is_last else '├'} "
            if isinstance(twig, RunRow):
                status = words.status(twig.status)
                yield f"{branch}{twig.run_id}  {twig.workflow}  {status}  {_took(twig, now)}".rstrip()
                yield from self._branches(twig.run_id, indent + ("  " if is_last else "│ "), now, everything)
            else:
                yield branch + _counted(twig)

    def _twigs(self, rows: list[RunRow], everything: bool) -> list[RunRow | list[RunRow]]:
        """What stands on the tree for these children: one run, or a list of many that are only counted."""
        families: dict[str, list[RunRow]] = {}
        for row in rows:
            families.setdefault(row.workflow, []).append(row)
        twigs: list[RunRow | list[RunRow]] = []
        for family in families.values():
            if everything or len(family) <= SHOWN:
                twigs += family
                continue
            family.sort(key=lambda row: _ATTENTION.get(row.status, 9))
            twigs += family[: SHOWN // 2]
            twigs.append(family[SHOWN // 2 :])
        return twigs


async def read_tree(app: Stepwell, row: RunRow) -> Tree:
    """The tree below a run, as it is now."""
    rows: list[RunRow] = []
    while len(rows) < FAMILY:
        page = await app.runs(Filter(root=row.root, limit=_PAGE, offset=len(rows)))
        rows += page
        if len(page) < _PAGE:
            return Tree(row.run_id, rows)
    return Tree(row.run_id, rows, is_cut=True)


def _took(row: RunRow, now: int) -> str:
    if row.finished_at is not None:
        return spoken(row.finished_at - row.created_at)
    return "" if row.status in TERMINAL else f"for {spoken(max(0, now - row.created_at))}"


def _counted(rows: list[RunRow]) -> str:
    statuses: dict[str, int] = {}
    for row in rows:
        statuses[row.status] = statuses.get(row.status, 0) + 1
    counts = ", ".join(f"{number:,} {words.status(status)}" for status, number in statuses.items())
    first, last = min(row.created_at for row in rows), max(row.finished_at or row.updated_at for row in rows)
    return f"… {len(rows):,} more of {rows[0].workflow}: {counts}, within {spoken(last - first)}"
