"""Which run is meant? The one with this id, or the only one whose id begins so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from stepwell.app import Stepwell
from stepwell.errors import RequestRefused, RunNotFound
from stepwell.stores.protocol import Filter, RunRow

LOOKED_AT = 2000
"""How many of the newest runs a suggestion is looked for among."""


class AmbiguousRun(RequestRefused):
    """Several runs' ids begin so."""

    code = "ambiguous_run"


async def find_run(app: Stepwell, text: str) -> RunRow:
    """The row of the run that is meant.

    Raises:
        RunNotFound: no id is or begins so; the text suggests others.
        AmbiguousRun: several begin so.
    """
    row = await app.store.get(text)
    if row is not None:
        return row
    begins = [row for row in await app.runs(Filter(search=text, limit=LOOKED_AT)) if row.run_id.startswith(text)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        some = ", ".join(row.run_id for row in begins[:4]) + (", …" if len(begins) > 4 else "")
        raise AmbiguousRun(f"{text!r} is the beginning of {len(begins)} run ids ({some}): write more of it")
    known = [row.run_id for row in await app.runs(Filter(limit=LOOKED_AT))]
    if not known:
        raise RunNotFound(f"no run has the id {text!r}: this store has no runs at all")
    hint = did_you_mean(text, known) or "; list them with 'stepwell runs'"
    raise RunNotFound(f"no run has the id {text!r}{hint}")


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?` with the most similar names, or nothing."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(text, names, n=2, cutoff=0.6)
    near = near or [name for name in names if text and text.lower() in name.lower()][:2]
    return f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
