"""Collections of others that tests go through where they are there: in the folder that `STEPWELL_CORPORA` names."""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = Path(os.environ.get("STEPWELL_CORPORA") or Path(__file__).parents[2] / ".." / "shared" / "corpora")

JSONLOGIC = _FOLDER / "jsonlogic"
"""The published suites of JSONLogic."""

WFINSTANCES = _FOLDER / "wfinstances"
"""Scientific workflows that were really run."""


def missing(folder: Path) -> str:
    """Why tests of a collection are skipped."""
    return f"no {folder.name}: neither STEPWELL_CORPORA nor ../shared/corpora has it"
